"""All endpoints of the simulated API, each with its numbered and dated paths."""

from typing import Final

from spokes.simulator.api import account as account_api
from spokes.simulator.api import associations as associations_api
from spokes.simulator.api import batches as batch_api
from spokes.simulator.api import objects as objects_api
from spokes.simulator.api import properties as properties_api
from spokes.simulator.api import search as search_api
from spokes.simulator.api.call import Endpoint
from spokes.simulator.rate_limits import Meter

_DATES: Final = ("2026-03", "2026-09")


def _paths(numbered: str, dated: str, rest: str) -> tuple[str, ...]:
    return (numbered + rest, *(dated.format(date=date) + rest for date in _DATES))


def _objects(rest: str) -> tuple[str, ...]:
    return _paths("/crm/v3/objects/{type}", "/crm/objects/{date}/{{type}}", rest)


def _object_associations(rest: str) -> tuple[str, ...]:
    root = "/{type}/{id}/associations"
    return _paths("/crm/v4/objects", "/crm/objects/{date}", root + rest)


def _associations(rest: str) -> tuple[str, ...]:
    return _paths("/crm/v4/associations", "/crm/associations/{date}", "/{type}/{to_type}" + rest)


def _properties() -> tuple[str, ...]:
    return _paths("/crm/v3/properties", "/crm/properties/{date}", "/{type}")


def _account(rest: str) -> tuple[str, ...]:
    return _paths("/account-info/v3", "/account-info/{date}", rest)


_TYPE: Final = ("type",)
_BOTH_TYPES: Final = ("type", "to_type")
_NUMBERED_ASSOCIATION: Final = ("/crm/v3/objects/{type}/{id}/associations/{to_type}/{to_id}/{association_type_id}",)
_TOKEN_INFO: Final = ("/oauth/v2/private-apps/get/access-token-info",)

# Fixed paths come before those whose placeholders would also match them.
ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint("POST", _objects("/batch/read"), batch_api.read_batch, type_parts=_TYPE),
    Endpoint("POST", _objects("/batch/create"), batch_api.create_batch, writes=True, type_parts=_TYPE),
    Endpoint("POST", _objects("/batch/update"), batch_api.update_batch, writes=True, type_parts=_TYPE),
    Endpoint("POST", _objects("/batch/upsert"), batch_api.upsert_batch, writes=True, type_parts=_TYPE),
    Endpoint("POST", _objects("/batch/archive"), batch_api.archive_batch, writes=True, type_parts=_TYPE),
    Endpoint("POST", _objects("/search"), search_api.search_objects, meter=Meter.SEARCH, type_parts=_TYPE),
    Endpoint("POST", _objects("/merge"), objects_api.merge_objects, writes=True, type_parts=_TYPE),
    Endpoint("POST", _objects("/gdpr-delete"), objects_api.erase_object, writes=True, type_parts=_TYPE),
    Endpoint("GET", _objects("/{id}"), objects_api.read_object, type_parts=_TYPE),
    Endpoint("PATCH", _objects("/{id}"), objects_api.update_object, writes=True, type_parts=_TYPE),
    Endpoint("DELETE", _objects("/{id}"), objects_api.archive_object, writes=True, type_parts=_TYPE),
    Endpoint("GET", _objects(""), objects_api.list_objects, type_parts=_TYPE),
    Endpoint("POST", _objects(""), objects_api.create_object, writes=True, type_parts=_TYPE),
    Endpoint(
        "PUT",
        _object_associations("/default/{to_type}/{to_id}"),
        associations_api.associate_default,
        writes=True,
        type_parts=_BOTH_TYPES,
    ),
    Endpoint(
        "PUT",
        _object_associations("/{to_type}/{to_id}"),
        associations_api.associate_labelled,
        writes=True,
        type_parts=_BOTH_TYPES,
    ),
    Endpoint(
        "DELETE",
        _object_associations("/{to_type}/{to_id}"),
        associations_api.dissociate,
        writes=True,
        type_parts=_BOTH_TYPES,
    ),
    Endpoint("GET", _object_associations("/{to_type}"), associations_api.list_associations, type_parts=_BOTH_TYPES),
    Endpoint("PUT", _NUMBERED_ASSOCIATION, associations_api.associate_by_number, writes=True, type_parts=_BOTH_TYPES),
    Endpoint(
        "DELETE", _NUMBERED_ASSOCIATION, associations_api.dissociate_by_number, writes=True, type_parts=_BOTH_TYPES
    ),
    Endpoint("GET", _associations("/labels"), associations_api.list_labels, type_parts=_BOTH_TYPES),
    *(
        Endpoint(
            "POST",
            _associations(f"/batch/{rest}"),
            respond,
            writes=rest != "read",
            meter=Meter.ASSOCIATIONS,
            type_parts=_BOTH_TYPES,
        )
        for rest, respond in (
            ("read", associations_api.read_batch),
            ("create", associations_api.create_batch),
            ("associate/default", associations_api.create_default_batch),
            ("archive", associations_api.archive_batch),
            ("labels/archive", associations_api.archive_labels_batch),
        )
    ),
    Endpoint("GET", _properties(), properties_api.list_properties, type_parts=_TYPE),
    Endpoint("POST", _properties(), properties_api.create_property, writes=True, type_parts=_TYPE),
    Endpoint("GET", _account("/details"), account_api.account_details),
    Endpoint("GET", _account("/api-usage/daily/private-apps"), account_api.daily_usage),
    Endpoint("POST", _TOKEN_INFO, account_api.token_info, meter=Meter.UNMETERED, anonymous=True),
)
