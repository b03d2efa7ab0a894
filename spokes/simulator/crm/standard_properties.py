"""Properties that HubSpot defines for its common object types, without those whose name starts with `hs_`.

HubSpot reserves that prefix for its own properties, of which there are hundreds; the simulator accepts any of them.
Source: HubSpot's default properties of contacts, companies, deals, tickets, products, line items and activities.
"""

from collections.abc import Mapping
from typing import Final

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
    "salutation school seniority start_date surveymonkeyeventlastupdated twitterbio twitterprofilephoto "
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

STANDARD_PROPERTIES: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(f"{_EVERY_TYPE} {names}".split())
    for name, names in {
        "contacts": f"{_COUNTED} {_CONTACTS}",
        "companies": f"{_COUNTED} {_COMPANIES}",
        "deals": _DEALS,
        "tickets": _TICKETS,
        "products": _PRODUCTS,
        "line_items": _LINE_ITEMS,
        **dict.fromkeys(("calls", "communications", "emails", "meetings", "notes", "postal_mails", "tasks"), ""),
    }.items()
}
