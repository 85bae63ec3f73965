"""The meanings that a reply can have; it may have several."""

from __future__ import annotations

from enum import StrEnum


class Intent(StrEnum):
    """One meaning of a reply."""

    INTERESTED = "interested"
    MEETING_REQUEST = "meeting_request"
    QUESTION_PRICING = "question_pricing"
    QUESTION_PRODUCT = "question_product"
    QUESTION_TECHNICAL = "question_technical"
    QUESTION_LEGAL = "question_legal"
    OBJECTION_PRICE = "objection_price"
    OBJECTION_TIMING = "objection_timing"
    OBJECTION_COMPETITOR = "objection_competitor"
    OBJECTION_NO_NEED = "objection_no_need"
    NOT_INTERESTED = "not_interested"
    UNSUBSCRIBE = "unsubscribe"
    REFERRAL = "referral"
    FORWARD = "forward"
    WRONG_PERSON = "wrong_person"
    LEFT_COMPANY = "left_company"
    OUT_OF_OFFICE = "out_of_office"
    ACKNOWLEDGEMENT = "acknowledgement"
    COMPLAINT = "complaint"
    BOUNCE = "bounce"
    OTHER = "other"


LABELS: tuple[str, ...] = tuple(Intent)
"""In the order of the columns of the head."""
