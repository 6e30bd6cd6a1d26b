//! Parameters that several routes have: parts of paths, queries and headers.

use hotrow_shared::{id::OrderId, order::Sku};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use uuid::Uuid;

/// The name of the request id among the components.
pub(super) const REQUEST_ID: &str = "RequestId";

/// The header that every request may have.
pub(super) fn request_id() -> Parameter {
    ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "1 to 128 visible ASCII characters by which the client finds the request in the log. What is none is \
             replaced by a new one.",
        ))
        .schema(Some(
            ObjectBuilder::new().schema_type(Type::String),
        ))
        .build()
}

/// Declares parameters that are described and never built: handlers read them by hand.
macro_rules! described {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[derive(IntoParams)]
            $(#[$meta])*
            #[expect(dead_code, reason = "it is described and never built: the handler reads it by hand")]
            pub(crate) struct $name { $($(#[$field_meta])* $field: $type,)* }
        )*
    };
}

described! {
    /// The order that a path names.
    #[into_params(parameter_in = Path)]
    struct OrderPath {
        /// The id that `POST /v1/orders` answered.
        order_id: OrderId,
    }

    /// The product that a path names.
    #[into_params(parameter_in = Path)]
    struct SkuPath {
        /// The code of the product.
        sku: Sku,
    }

    /// The endpoint of webhooks that a path names.
    #[into_params(parameter_in = Path)]
    struct WebhookPath {
        /// The id that `POST /v1/webhooks` answered.
        id: Uuid,
    }

    /// The unmatched payment that a path names.
    #[into_params(parameter_in = Path)]
    struct PaymentPath {
        /// The id by which the list has it.
        #[param(minimum = 1, maximum = 9_223_372_036_854_775_807i64)]
        id: i64,
    }

    /// A wait by a query parameter.
    #[into_params(parameter_in = Query)]
    struct WaitQuery {
        /// Answer as soon as what is asked for has happened, and at the latest after so many seconds. More than 30 counts
        /// as 30. It counts before `Prefer`, and costs a browser no preflight.
        #[param(minimum = 0, nullable = false, example = 10)]
        wait: Option<u32>,
    }

    /// A wait by a preference.
    #[into_params(parameter_in = Header)]
    struct PreferHeader {
        /// `wait=N` answers as soon as what is asked for has happened, and at the latest after `N` seconds (RFC 7240,
        /// section 4.3). Other preferences are ignored.
        #[param(rename = "Prefer", nullable = false, example = "wait=10")]
        prefer: Option<String>,
    }

    /// The revision that a client knows.
    #[into_params(parameter_in = Query)]
    struct RevisionQuery {
        /// With a wait, answer as soon as the order has a higher revision than this; 304 if it has none by the end.
        #[param(minimum = 0, maximum = 2_147_483_647, nullable = false, example = 1)]
        after_revision: Option<i32>,
    }

    /// The revision that a client knows, by its entity tag.
    #[into_params(parameter_in = Header)]
    struct IfNoneMatchHeader {
        /// The `ETag` of the order as the client knows it, which means the same as `after_revision`.
        #[param(rename = "If-None-Match", nullable = false, example = "\"1\"")]
        if_none_match: Option<String>,
    }

    /// The edition that a change is made to.
    #[into_params(parameter_in = Header)]
    struct IfMatchHeader {
        /// The `ETag` of the product: the change is made only if nobody has changed it since. `*` asks for any product
        /// that is there.
        #[param(rename = "If-Match", nullable = false, example = "\"7\"")]
        if_match: Option<String>,
    }

    /// A key under which a request takes effect once.
    #[into_params(parameter_in = Header)]
    struct KeyHeader {
        /// 1 to 255 visible ASCII characters, bare or quoted. Requests with the same key take effect once, so send one
        /// whenever a request may be repeated.
        #[param(rename = "Idempotency-Key", nullable = false, pattern = r#"^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#, example = "my-first-order")]
        idempotency_key: Option<String>,
    }

    /// How many rows a page has.
    #[into_params(parameter_in = Query)]
    struct LimitQuery {
        /// How many rows the page may have.
        #[param(minimum = 1, maximum = 1_000, default = 100, nullable = false)]
        limit: Option<u32>,
    }

    /// Where a page begins that is told by numbers.
    #[into_params(parameter_in = Query)]
    struct AfterNumber {
        /// The `next_after` of the page before; the first page without it.
        #[param(minimum = 0, maximum = 9_223_372_036_854_775_807i64, nullable = false)]
        after: Option<i64>,
    }

    /// Where a page of products begins.
    #[into_params(parameter_in = Query)]
    struct AfterSku {
        /// The `next_after` of the page before; the first page without it.
        #[param(nullable = false, max_length = 64, pattern = "^[A-Za-z0-9._:@-]*$")]
        after: Option<String>,
    }

    /// Where a page of endpoints begins.
    #[into_params(parameter_in = Query)]
    struct AfterText {
        /// The `next_after` of the page before; the first page without it.
        #[param(nullable = false, pattern = "^([0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?$")]
        after: Option<String>,
    }
}
