"""Lines that a handler logs name its delivery and portal."""

import contextvars

import structlog

from spokes.core.delivery import Delivery
from workers.delivery.log_context import log_as_part_of


def test_lines_name_the_delivery_that_runs_now() -> None:
    def fields() -> dict[str, object]:
        for delivery_id in ("7-1", "7-2"):
            log_as_part_of(Delivery(delivery_id, 7, 0, ()))
        return structlog.contextvars.get_contextvars()

    bound = contextvars.Context().run(fields)
    assert (bound["delivery_id"], bound["portal_id"]) == ("7-2", 7)


def test_lines_name_the_delivery_after_a_handler_cleared_the_log_context() -> None:
    def fields() -> dict[str, object]:
        log_as_part_of(Delivery("7-1", 7, 0, ()))
        structlog.contextvars.clear_contextvars()
        log_as_part_of(Delivery("7-1", 7, 0, ()))
        return structlog.contextvars.get_contextvars()

    assert contextvars.Context().run(fields) == {"delivery_id": "7-1", "portal_id": 7}
