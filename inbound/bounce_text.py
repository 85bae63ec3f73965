"""What mail servers say when they refuse, as data: phrases and the class each stands for.

The first class with a phrase in the text wins, so the narrow ones come first. Phrases are lower
case. Sources: the texts of Postfix, Exim, qmail, sendmail, Exchange and the large mail hosts.
"""

from __future__ import annotations

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "full",
        (
            "mailbox is full", "mailbox full", "over quota", "overquota", "quota exceeded",
            "exceeded storage", "exceeded quota", "out of storage", "insufficient storage",
            "mailbox has exceeded", "disk quota", "mailbox size limit", "mailfolder is full",
            "not enough storage space", "inbox is full", "storage allocation", "user is over",
            "exceed the quota", "exceeds the quota", "mailbox quota", "maildir over", "552 5.2.2",
            "recipient storage full", "quotaexceeded", "is over the limit", "no space left",
        ),
    ),
    (
        "too_big",
        (
            "message size exceeds", "message too large", "message too big", "exceeds size limit",
            "size limit exceeded", "maximum message size", "exceeded message size", "file too big",
            "message is too large", "exceeds the maximum", "too large to send", "larger than the",
            "message length exceeds", "message file too big", "exceeds fixed maximum",
        ),
    ),
    (
        "throttled",
        (
            "rate limit", "too many connections", "too many messages", "throttl", "try again later",
            "greylist", "graylist", "grey-list", "temporarily deferred", "deferred due to",
            "unusual rate", "sending too fast", "too much mail", "exceeded the rate", "slow down",
            "receiving mail at a rate", "too many recipients", "too many concurrent",
            "exceeded the maximum number", "too quickly", "rate that prevents", "rate-limited",
        ),
    ),
    (
        "bad_domain",
        (
            "host not found", "domain not found", "host unknown", "unknown host", "no such domain",
            "name or service not known", "nxdomain", "domain does not exist", "no mx",
            "unable to find domain", "invalid domain", "unrouteable mail domain", "bad domain",
            "domain name not found", "illegal host/domain", "couldn't find any host named",
            "dns error", "does not accept mail (nullmx)", "null mx", "no route to host name",
            "domain is not valid", "recipient domain not found", "doesn't have any mail servers",
            "domain couldn't be found", "all relevant mx records point to non-existent hosts",
            "cannot find a mail exchanger", "unrouteable domain", "nullmx", "unresolvable domain",
        ),
    ),
    (
        "inactive",
        (
            "account is disabled", "account disabled", "mailbox disabled", "account is inactive",
            "inactive user", "account has been disabled", "account suspended", "is suspended",
            "mailbox is inactive", "user suspended", "account has been suspended", "deactivated",
            "account that you tried to reach is disabled", "mailbox unavailable or access denied",
            "mailbox not available or disabled", "account is not active", "mailbox is disabled",
            "user disabled", "recipient disabled", "mailbox locked", "account expired",
            "temporarily disabled", "not been activated", "mailbox is frozen", "account is locked",
            "disabled recipient", "inactive account", "user account is locked",
        ),
    ),
    (
        "policy",
        (
            "spamhaus", "blocklist", "blacklist", "black list", "block list", "dnsbl", "rbl",
            "dmarc", "spf check", "spf fail", "dkim", "reverse dns", "ptr record", "reputation",
            "not authenticated", "unauthenticated", "relay access denied", "relaying denied",
            "relay not permitted", "unable to relay", "authentication required", "sender rejected",
            "poor reputation", "barracuda", "spamcop", "sender address rejected", "client host",
            "not authorized", "not allowed to send", "is blocked", "has been blocked", "banned",
            "restricted", "mimecast", "administrative prohibition", "proofpoint", "senderbase",
            "relay denied", "not permitted to relay", "only accepts mail from", "sender verify",
            "does not meet our", "ip address has been", "sender denied", "helo",
            "ehlo", "s3140",
            "rejected for policy", "policy reasons", "policy violation", "blocked using",
            "security policies", "your ip", "unsolicited mail originating", "listed at",
            "listed by",
        ),
    ),
    (
        "bad_mailbox",
        (
            "user unknown", "unknown user", "no such user", "user not found", "no mailbox here",
            "mailbox not found", "does not exist", "doesn't exist", "unknown recipient",
            "recipient unknown", "invalid recipient", "no such recipient", "unknown local part",
            "recipient not found", "unknown address", "address unknown", "no such mailbox",
            "mailbox unavailable", "unrouteable address", "unroutable address", "bad address",
            "recipient address rejected: access denied", "recipnotfound", "not a valid mailbox",
            "recipient rejected", "invalid mailbox", "address rejected", "not listed in",
            "no such address", "unknown or illegal alias", "addressee unknown", "not our customer",
            "is not a known user", "user doesn't have a", "no user here", "couldn't be found",
            "wasn't found at", "was not found", "could not be found", "address not found",
            "not found in", "user is unknown", "unknown mailbox",
            "no valid recipients",
            "recipient does not exist", "this user doesn't", "no account", "invalid address",
            "invalid user", "unknown account", "not known at this site",
            "delivery to the following "
            "recipients failed", "not found by smtp", "undeliverable address", "no such person",
            "is not a valid", "no longer valid", "no longer exists", "user has moved", "gone away",
            "mailbox does not", "recipient no longer", "address no longer", "no longer in use",
            "user no longer", "this account does not", "account not found", "bad destination",
            "not a mailbox", "is unknown", "5.1.1", "5.1.10", "recipient invalid", "no existe",
            "unbekannt", "n'existe pas", "nicht gefunden", "non esiste", "existiert nicht",
            "inconnu", "não existe", "bestaat niet", "nie istnieje", "sconosciuto", "onbekend",
            "desconocido", "wurde nicht gefunden", "introuvable", "неизвест", "не найден",
        ),
    ),
    (
        "content",
        (
            "spam", "virus", "content rejected", "message content", "malware", "junk", "phishing",
            "suspicious", "attachment", "banned content", "message rejected due to content", "urls",
            "looks like", "unsolicited", "message refused by", "infected", "high-probability",
            "message contains", "header", "invalid content", "bare lf", "non-ascii", "8bit",
            "not rfc 5322 compliant", "rfc 5322", "rfc 2822",
        ),
    ),
    (
        "infrastructure",
        (
            "timed out", "timeout", "connection refused", "no route to host", "unreachable",
            "connection reset", "lost connection", "too many hops", "mail loop", "loops back",
            "hop count", "routing loop", "retry time not reached", "delivery time expired",
            "could not connect", "unable to connect", "network error", "system not available",
            "resources temporarily unavailable", "server error", "retry timeout exceeded",
            "message expired", "expired in queue", "temporary failure", "internal error",
            "system error", "local error", "i/o error", "service unavailable", "not responding",
            "undeliverable for too long", "in the queue too long", "conversation failed",
            "tls", "certificate", "configuration error", "wasn't able to establish",
            "unable to deliver", "mail system", "server configuration", "connection dropped",
            "loop detected", "bad connection", "temporary error", "couldn't connect", "broken pipe",
        ),
    ),
)  # fmt: skip

BY_STATUS: dict[str, str] = {
    "1.0": "bad_mailbox", "1.1": "bad_mailbox", "1.2": "bad_domain", "1.3": "bad_mailbox",
    "1.4": "bad_mailbox", "1.5": "bad_mailbox", "1.6": "bad_mailbox", "1.7": "policy",
    "1.8": "policy", "1.9": "other", "1.10": "bad_mailbox", "2.0": "other", "2.1": "inactive",
    "2.2": "full", "2.3": "too_big", "2.4": "bad_mailbox", "3.0": "infrastructure",
    "3.1": "infrastructure", "3.2": "infrastructure", "3.3": "infrastructure", "3.4": "too_big",
    "3.5": "infrastructure", "4.0": "infrastructure", "4.1": "infrastructure",
    "4.2": "infrastructure", "4.3": "infrastructure", "4.4": "bad_domain", "4.5": "throttled",
    "4.6": "infrastructure", "4.7": "infrastructure", "5.0": "other", "5.1": "other",
    "5.2": "other", "5.3": "throttled", "6.0": "content", "6.1": "content", "6.2": "content",
    "6.3": "content", "6.6": "content", "6.7": "content", "7.0": "policy", "7.1": "policy",
}  # fmt: skip
"""RFC 3463 subject and detail to class, where the words said nothing."""

SUBJECTS = (
    "undeliver", "delivery status notification", "returned mail", "failure notice",
    "mail delivery failed", "delivery failure", "mail delivery system", "delivery has failed",
    "delivery notification", "message not delivered", "could not be delivered", "not delivered",
    "returned to sender", "returning message to sender", "mail failure", "delivery problem",
    "mail delivery failure", "undelivered", "nondeliverable", "non-delivery", "nondelivery",
    "unzustellbar", "non remis", "no se puede entregar", "impossibile recapitare", "não entregue",
    "onbestelbaar", "delivery error", "message delivery", "mail system error", "rejected",
    "notification d'état", "zustellung", "échec de la remise", "user unknown", "bounced",
    "nicht zugestellt", "no entregado", "mancato recapito", "недоставл", "не доставлено",
    "不達", "配信不能", "退信", "failed delivery", "failed to deliver", "delayed", "mail error",
    "delivery delay", "warning: could not send", "warning: message", "still being retried",
    "unable to deliver", "message undeliverable", "エラー", "delivery incomplete", "unroutable",
)  # fmt: skip

DAEMONS = (
    "mailer-daemon", "mailerdaemon", "postmaster", "mail-daemon", "mail delivery", "maildelivery",
    "microsoftexchange", "mdaemon", "double-bounce", "bounce", "mailadmin", "mail-admin",
    "delivery subsystem", "mailer_daemon", "mail_daemon", "nondelivery", "root@",
)  # fmt: skip

NOTES = (
    "could not be delivered", "couldn't be delivered", "unable to deliver", "not be delivered",
    "delivery to the following", "undeliverable", "failed permanently",
    "permanent error",
    "wasn't able to deliver", "was not able to deliver", "did not reach", "delivery has failed",
    "i'm sorry to have to inform you", "permanent fatal errors", "delivery failed",
    "wasn't delivered",
    "returned to the sender", "address couldn't be found", "this is a permanent error",
    "following address failed", "following addresses had", "could not deliver", "delivery failure",
    "this is the mail system at host", "message was not delivered", "unable to be delivered",
    "konnte nicht zugestellt", "nicht zugestellt werden", "n'a pas pu être", "no se pudo entregar",
    "no se ha podido", "impossibile recapitare", "non è stato possibile", "não pôde ser entregue",
    "kon niet worden", "user unknown", "no such user", "mailbox full", "over quota", "was rejected",
    "could not be reached", "is being returned", "has been rejected",
    "not been delivered",
    "delivery temporarily suspended", "не удалось доставить", "не может быть доставлено",
    "送信できません", "配信できません", "unknown user", "message delivery failed",
    "couldn't deliver",
)  # fmt: skip

COPIES = (
    "--- below this line is a copy", "------ this is a copy", "----- original message",
    "original message headers", "--- original message", "----- unsent message", "----- the header",
    "message header follows", "return-path:", "received:", "--- undelivered message",
    "----- message header", "original message follows", "the original message", "-- message header",
    "reporting-mta:", "diagnostic information for administrators", "----- original header",
    "--- message from", "copy of the message", "headers follow", "--- begin message",
)  # fmt: skip
"""Lines from which on a note repeats the message it is about."""
