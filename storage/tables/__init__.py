"""All tables. Each module's docstring names the package that writes them."""

from storage.tables.arrivals import Arrival, Mailbox
from storage.tables.base import Base, CompanyScoped, Keyed
from storage.tables.batches import Batch, BatchPart
from storage.tables.companies import Audit, Company, SignInLink, User, WebSession
from storage.tables.contacts import (
    Consent,
    Contact,
    Preference,
    Suppression,
    Topic,
    TopicChoice,
)
from storage.tables.content import ContentItem, MediaChunk, MediaFile, Presentation
from storage.tables.events import Cursor, Event, Hold
from storage.tables.leads import Cluster, Lead, Referral
from storage.tables.messages import Attempt, Delivery, Message, SpoolMark, Template
from storage.tables.queue import QueueSample, QueueSuspension, RouteOverride, Trace
from storage.tables.responses import Draft, Reading
from storage.tables.senders import Credential, Domain, DomainCheck, DomainKeys
from storage.tables.sequences import Enrolment, Sequence, SequenceVersion, StepRun
from storage.tables.sites import SiteRecord
from storage.tables.webhooks import Webhook, WebhookAttempt
from storage.tables.work import Activity, Task

__all__ = [
    "Activity",
    "Arrival",
    "Attempt",
    "Audit",
    "Base",
    "Batch",
    "BatchPart",
    "Cluster",
    "Company",
    "CompanyScoped",
    "Consent",
    "Contact",
    "ContentItem",
    "Credential",
    "Cursor",
    "Delivery",
    "Domain",
    "DomainCheck",
    "DomainKeys",
    "Draft",
    "Enrolment",
    "Event",
    "Hold",
    "Keyed",
    "Lead",
    "Mailbox",
    "MediaChunk",
    "MediaFile",
    "Message",
    "Preference",
    "Presentation",
    "QueueSample",
    "QueueSuspension",
    "Reading",
    "Referral",
    "RouteOverride",
    "Sequence",
    "SequenceVersion",
    "SignInLink",
    "SiteRecord",
    "SpoolMark",
    "StepRun",
    "Suppression",
    "Task",
    "Template",
    "Topic",
    "TopicChoice",
    "Trace",
    "User",
    "WebSession",
    "Webhook",
    "WebhookAttempt",
]
