"""Properties that HubSpot defines for its common object types.

HubSpot reserves the prefix `hs_` for its own properties, of which there are hundreds. Here are those with a kind of
their own; the simulator takes any other as a text (assumed), except those of tasks and notes, whose names are all here.
Source: HubSpot's default properties of contacts, companies, deals, tickets, products, line items and activities, as
published lists of properties show them.
"""

from collections.abc import Mapping
from typing import Final

from spokes.simulator.crm.standard_options import STANDARD_OPTIONS
from spokes.simulator.property_definition import OWNER, PropertyDefinition

RESERVED_PREFIX: Final = "hs_"

_EVERY_TYPE: Final = "createdate hubspot_owner_assigneddate hubspot_owner_id hubspot_team_id num_notes"
_COUNTED: Final = (
    "closedate days_to_close engagements_last_meeting_booked engagements_last_meeting_booked_campaign "
    "engagements_last_meeting_booked_medium engagements_last_meeting_booked_source first_deal_created_date "
    "notes_last_contacted notes_last_updated notes_next_activity_date num_associated_deals num_contacted_notes "
    "num_conversion_events num_unique_conversion_events owneremail ownername recent_conversion_date "
    "recent_conversion_event_name first_conversion_date first_conversion_event_name recent_deal_amount "
    "recent_deal_close_date total_revenue twitterhandle lifecyclestage annualrevenue numberofemployees industry "
    "address city state zip country phone website"
)
_CONTACTS: Final = (
    "associatedcompanyid associatedcompanylastupdated company company_size currentlyinworkflow date_of_birth degree "
    "email fax field_of_study firstname followercount gender graduation_date ip_city ip_country ip_country_code "
    "ip_latlon ip_state ip_state_code ip_zipcode job_function jobtitle kloutscoregeneral lastmodifieddate lastname "
    "linkedinbio linkedinconnections marital_status message military_status mobilephone photo relationship_status "
    "numemployees salutation school seniority start_date surveymonkeyeventlastupdated twitterbio twitterprofilephoto "
    "webinareventlastupdated work_email"
)
_COMPANIES: Final = (
    "about_us address2 description domain facebook_company_page facebookfans founded_year googleplus_page is_public "
    "linkedin_company_page linkedinbio name num_associated_contacts recent_deal_amount timezone total_money_raised "
    "twitterbio twitterfollowers type web_technologies"
)
_DEALS: Final = (
    "amount amount_in_home_currency closed_lost_reason closed_won_reason closedate days_to_close deal_currency_code "
    "dealname dealstage dealtype description engagements_last_meeting_booked engagements_last_meeting_booked_campaign "
    "engagements_last_meeting_booked_medium engagements_last_meeting_booked_source notes_last_contacted "
    "notes_last_updated notes_next_activity_date num_associated_contacts num_contacted_notes pipeline"
)
_TICKETS: Final = (
    "closed_date content created_by first_agent_reply_date last_engagement_date last_reply_date notes_last_contacted "
    "notes_last_updated notes_next_activity_date num_contacted_notes nps_follow_up_answer "
    "nps_follow_up_question_version nps_score source_ref source_thread_id source_type subject tags time_to_close "
    "time_to_first_agent_reply"
)
_PRODUCTS: Final = "amount description discount name price quantity recurringbillingfrequency tax"
_LINE_ITEMS: Final = f"{_PRODUCTS} recurringbillingfrequency"

_TASKS: Final = (
    "hs_task_body hs_task_campaign_guid hs_task_completion_count hs_task_completion_date hs_task_contact_timezone "
    "hs_task_family hs_task_for_object_type hs_task_is_all_day hs_task_is_completed hs_task_is_completed_call "
    "hs_task_is_completed_email hs_task_is_completed_linked_in hs_task_is_completed_sequence hs_task_is_open "
    "hs_task_is_overdue hs_task_is_past_due_date hs_task_last_contact_outreach "
    "hs_task_last_sales_activity_timestamp hs_task_missed_due_date hs_task_missed_due_date_count "
    "hs_task_ms_until_overdue hs_task_priority hs_task_probability_to_complete hs_task_relative_reminders "
    "hs_task_reminders hs_task_repeat_interval hs_task_send_default_reminder hs_task_sequence_enrollment_active "
    "hs_task_sequence_step_enrollment_contact_id hs_task_sequence_step_enrollment_id hs_task_sequence_step_order "
    "hs_task_status hs_task_subject hs_task_template_id hs_task_type"
)
_NOTES: Final = "hs_note_body hs_note_ms_teams_payload"
COMPLETE_PREFIXES: Final = ("hs_task_", "hs_note_")  # a name with one of these that is not listed does not exist

_NAMES: Final[Mapping[str, str]] = {
    "contacts": f"{_COUNTED} {_CONTACTS}",
    "companies": f"{_COUNTED} {_COMPANIES}",
    "deals": _DEALS,
    "tickets": _TICKETS,
    "products": _PRODUCTS,
    "line_items": _LINE_ITEMS,
    **dict.fromkeys(("calls", "communications", "emails", "meetings", "postal_mails"), "hs_timestamp"),
    "notes": f"hs_timestamp {_NOTES}",
    "tasks": f"hs_timestamp {_TASKS}",
}

_NAMES_OF_KIND: Final[Mapping[str, str]] = {
    "number": (
        "amount price quantity discount tax followercount linkedinconnections facebookfans numberofemployees "
        "twitterfollowers hs_call_duration hs_deal_stage_probability"
    ),
    "datetime": (
        "closedate createdate hs_timestamp hs_meeting_start_time hs_meeting_end_time hs_task_completion_date "
        "hubspot_owner_assigneddate"
    ),
    "bool": "is_public",
    OWNER: "hubspot_owner_id",
}
_KINDS: Final = {name: kind for kind, names in _NAMES_OF_KIND.items() for name in names.split()}
_KINDS_OF_TYPE: Final[Mapping[tuple[str, str], str]] = {("companies", "annualrevenue"): "number"}
_READ_ONLY_NAMES: Final = (
    "hs_object_id hs_createdate hs_lastmodifieddate lastmodifieddate hs_is_contact hs_is_unworked "
    "hs_all_accessible_team_ids hs_all_owner_ids "
    "hs_all_team_ids hs_calculated_merged_vids hs_calculated_mobile_number hs_calculated_phone_number "
    "hs_created_by_user_id hs_email_domain hs_full_name_or_email hs_is_closed hs_is_closed_won hs_merged_object_ids "
    "hs_num_associated_contacts hs_num_child_companies hs_object_source hs_object_source_id hs_object_source_label "
    "hs_projected_amount hs_projected_amount_in_home_currency hs_updated_by_user_id amount_in_home_currency "
    "days_to_close first_conversion_date first_conversion_event_name first_deal_created_date "
    "hubspot_owner_assigneddate notes_last_contacted notes_last_updated notes_next_activity_date "
    "num_associated_contacts num_associated_deals num_contacted_notes num_conversion_events num_notes "
    "num_unique_conversion_events recent_conversion_date recent_conversion_event_name recent_deal_amount "
    "recent_deal_close_date time_to_close time_to_first_agent_reply total_revenue "
    "associatedcompanylastupdated currentlyinworkflow engagements_last_meeting_booked "
    "engagements_last_meeting_booked_campaign engagements_last_meeting_booked_medium "
    "engagements_last_meeting_booked_source ip_city ip_country ip_country_code ip_latlon ip_state ip_state_code "
    "ip_zipcode surveymonkeyeventlastupdated webinareventlastupdated "
    "hs_analytics_first_timestamp hs_analytics_first_visit_timestamp hs_analytics_last_timestamp "
    "hs_analytics_last_visit_timestamp hs_analytics_num_event_completions hs_analytics_num_page_views "
    "hs_analytics_num_visits hs_closed_amount hs_closed_amount_in_home_currency hs_last_sales_activity_date "
    "hs_last_sales_activity_timestamp hs_latest_source hs_latest_source_timestamp hs_num_open_deals "
    "hs_object_source_detail_1 hs_object_source_detail_2 hs_object_source_detail_3 hs_object_source_user_id "
    "hs_read_only hs_task_completion_count hs_task_is_completed hs_task_is_open hs_task_is_overdue "
    "hs_task_is_past_due_date hs_task_missed_due_date_count hs_task_ms_until_overdue hs_user_ids_of_all_owners "
    "hs_was_imported"
)
_READ_ONLY: Final = frozenset(_READ_ONLY_NAMES.split())
_READ_ONLY_PREFIXES: Final = (
    "hs_calculated_", "hs_date_entered_", "hs_date_exited_", "hs_num_associated_", "hs_time_between_", "hs_time_in_",
    "hs_time_to_", "hs_v2_",
)  # fmt: skip
_CREATION_TIMES_WRITABLE: Final = frozenset({"deals", "tickets"})  # of which users may change the create date (assumed)


def standard_definition(type_name: str, name: str) -> PropertyDefinition | None:
    """Return HubSpot's own property of a type, None if the type does not have it."""
    exists = name in STANDARD_NAMES.get(type_name, _NAMES_ON_EVERY_TYPE)
    if not exists and (not name.startswith(RESERVED_PREFIX) or name.startswith(COMPLETE_PREFIXES)):
        return None
    options = STANDARD_OPTIONS.get(type_name, {}).get(name)
    if options is not None:
        return PropertyDefinition("enumeration", options, multiple=False)
    kind = _KINDS_OF_TYPE.get((type_name, name)) or _KINDS.get(name, "string")
    return PropertyDefinition(kind, read_only=_is_read_only(type_name, name))


def _is_read_only(type_name: str, name: str) -> bool:
    if name == "createdate":
        return type_name not in _CREATION_TIMES_WRITABLE
    return name in _READ_ONLY or name.startswith(_READ_ONLY_PREFIXES)


def standard_definitions(type_name: str) -> dict[str, PropertyDefinition]:
    """Return HubSpot's own properties of a type that are known by name."""
    names = STANDARD_NAMES.get(type_name, frozenset()) | STANDARD_OPTIONS.get(type_name, {}).keys()
    return {name: definition for name in sorted(names) if (definition := standard_definition(type_name, name))}


_NAMES_ON_EVERY_TYPE: Final = frozenset(f"{_EVERY_TYPE} hs_object_id".split())
STANDARD_NAMES: Final[Mapping[str, frozenset[str]]] = {
    type_name: _NAMES_ON_EVERY_TYPE | frozenset(names.split()) for type_name, names in _NAMES.items()
}
