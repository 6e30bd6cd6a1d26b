//! What the description says of the interface as a whole.

use std::collections::BTreeMap;

use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr, Server,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use crate::auth::Who;

/// The name of the only security scheme.
pub(super) const BEARER: &str = "bearer";

const ABOUT: &str = "\
Hotrow takes orders for goods that many want at the same moment, and settles them in batches.

Requests and answers are JSON in UTF-8. Times are RFC 3339 in UTC with milliseconds, and amounts are whole numbers in \
the currency's smallest unit (`4900` is EUR 49.00).

**What may be added.** Answers may get new members, and `status`, `reason`, `state` and `code` new words. A client must \
survive those that it does not know: ignore members, treat a status as one that may still change, show a reason as it is, \
and treat a code by the status of the answer.

**Refusals** are `application/problem+json` (RFC 9457), with a `code` for programs and a `detail` for people. Any other \
path is 404 `not_found`. Another method of a path is 405 `method_not_allowed` with `Allow`. `HEAD` works wherever `GET` \
does. Query parameters that a route does not know, and those given twice, are 400 `malformed`.

**Waiting.** Repeat a request after 408, 429, 503 and a lost connection, and not before `Retry-After`. A purchase \
without an `Idempotency-Key` that is repeated may be another order.";

const ABOUT_TOKENS: &str = "\
A JSON Web Token (RFC 7519) whose `sub` is the customer and whose role is `customer`, `support`, `shop` or `admin`, or the \
fixed token of administrators, which counts as `admin`. A shop that checks no tokens is *open*: there, routes that \
change nothing settled need none.";

const TAGS: [(&str, &str); 7] = [
    ("orders", "Place orders, and see what becomes of them."),
    (
        "changes",
        "Pay, cancel and extend settled orders, and read their history.",
    ),
    (
        "payments",
        "Payments that did not pay their order, and Stripe's webhook.",
    ),
    ("inventory", "What is for sale, and by which rules."),
    ("sale", "The switch for all purchases."),
    (
        "administration",
        "Endpoints of webhooks, and who changed what.",
    ),
    (
        "operations",
        "Probes, this description, and the page that shows it.",
    ),
];

/// A description of no route yet.
pub(super) fn document() -> OpenApi {
    let license = LicenseBuilder::new()
        .name("MIT OR Apache-2.0")
        .identifier(Some("MIT OR Apache-2.0"));
    let info = InfoBuilder::new()
        .title("Hotrow")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()));
    let tags = TAGS.map(|(name, about)| {
        TagBuilder::new()
            .name(name)
            .description(Some(about))
            .build()
    });
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .tags(Some(tags))
        .build()
}

/// How callers say who they are.
pub(super) fn security_schemes() -> BTreeMap<String, RefOr<SecurityScheme>> {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(ABOUT_TOKENS));
    let bearer = SecurityScheme::Http(bearer.build());
    [(BEARER.to_owned(), bearer.into())].into()
}

/// Who may call a route, as a sentence.
pub(super) fn callers(who: Option<Who>) -> String {
    match who {
        None => "Anybody may call it, and a token is not looked at.".to_owned(),
        Some(Who::Anybody) => {
            "Anybody may call it. A token that is sent is checked all the same.".to_owned()
        }
        Some(Who::Roles { roles, open }) => {
            let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
            let unasked = if open {
                ", and in an open shop anybody"
            } else {
                ""
            };
            format!("Callers: {}{unasked}.", roles.join(", "))
        }
    }
}
