//! Claims about roles: each cell of the contract's table of who may call what.

use hotrow_tests::{Place, Process, client::Answer, processes::ADMIN_TOKEN};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    CHAIR, assert_refused, changes, ingest,
    issuer::{Issuer, SECRET},
    place, put_up, send,
};

/// Whom the order of the claims belongs to: see [`changes::settle`].
const OWNER: &str = "c-1";

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Customer,
    Support,
    Shop,
    Admin,
    /// With the fixed token of administrators.
    AdminToken,
    /// Without a token, where tokens are checked.
    Nobody,
    /// Without a token, where none are.
    Open,
    /// The same with the fixed token of administrators.
    OpenAdminToken,
}

use Who::{Admin, AdminToken, Customer, Nobody, Open, OpenAdminToken, Shop, Support};

const EVERYBODY: [Who; 8] = [
    Customer,
    Support,
    Shop,
    Admin,
    AdminToken,
    Nobody,
    Open,
    OpenAdminToken,
];

/// Routes that are for the same callers, and who they are. All others are refused.
const ADMINS: &[Who] = &[Admin, AdminToken, OpenAdminToken];
const SHOP: &[Who] = &[Shop, Admin, AdminToken, OpenAdminToken];
const STAFF: &[Who] = &[Support, Shop, Admin, AdminToken, OpenAdminToken];
const PARTIES: &[Who] = &[Customer, Support, Shop, Admin, AdminToken, OpenAdminToken];
const READERS: &[Who] = &[
    Customer,
    Support,
    Shop,
    Admin,
    AdminToken,
    Open,
    OpenAdminToken,
];
const BUYERS: &[Who] = &[Customer, Shop, Admin, AdminToken, Open, OpenAdminToken];

/// One row of the table.
struct Row {
    method: Method,
    path: String,
    body: Option<Value>,
    allowed: &'static [Who],
    /// What those who are allowed hear.
    status: u16,
}

fn row(
    method: Method,
    path: impl Into<String>,
    body: Option<Value>,
    allowed: &'static [Who],
    status: u16,
) -> Row {
    Row {
        method,
        path: path.into(),
        body,
        allowed,
        status,
    }
}

/// A shop that checks tokens and one that is open, on the same tables.
struct Doors {
    database: PgConnection,
    checked: Process,
    open: Process,
    issuer: Issuer,
    _place: Place,
}

impl Doors {
    async fn set() -> anyhow::Result<Self> {
        let place = place().await?;
        let database = place.database().await?;
        let open = ingest(&place).start().await?;
        put_up(&open, CHAIR, 100).await?;
        let checked = ingest(&place).set("AUTH_SECRET", SECRET).start().await?;
        Ok(Self {
            database,
            checked,
            open,
            issuer: Issuer::secret(SECRET.as_bytes()),
            _place: place,
        })
    }

    async fn ask(&self, who: Who, row: &Row) -> anyhow::Result<Answer> {
        let token = match who {
            Customer => Some(self.issuer.token(OWNER, "customer")),
            Support => Some(self.issuer.token("s-1", "support")),
            Shop => Some(self.issuer.token("shop", "shop")),
            Admin => Some(self.issuer.token("a-1", "admin")),
            AdminToken | OpenAdminToken => Some(ADMIN_TOKEN.to_owned()),
            Nobody | Open => None,
        };
        let process = match who {
            Open | OpenAdminToken => &self.open,
            _ => &self.checked,
        };
        let token = token.map(|token| format!("Bearer {token}"));
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        if let Some(token) = &token {
            headers.push(("authorization", token.as_bytes()));
        }
        let body = row.body.as_ref().map(Value::to_string);
        if body.is_some() {
            headers.push(("content-type", b"application/json"));
        }
        let (method, path) = (row.method.clone(), &row.path);
        send(process, method, path, &headers, body.unwrap_or_default()).await
    }

    /// Checks a row for everybody.
    async fn check(&self, row: &Row) -> anyhow::Result<()> {
        for who in EVERYBODY {
            let answer = self.ask(who, row).await?;
            let text = String::from_utf8_lossy(&answer.body);
            let cell = format!("{} {} by {who:?}: {text}", row.method, row.path);
            if row.allowed.contains(&who) {
                assert_eq!(answer.status, row.status, "{cell}");
            } else if matches!(who, Nobody | Open) {
                assert_eq!(answer.status, 401, "{cell}");
                assert_refused(&answer, 401, "unauthorized");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{cell}");
            } else {
                assert_eq!(answer.status, 403, "{cell}");
                assert_refused(&answer, 403, "forbidden");
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn each_role_may_do_with_orders_what_the_table_says() -> anyhow::Result<()> {
    let mut doors = Doors::set().await?;
    let id = changes::settle(&mut doors.database, "reserved", None).await?;
    let order = |path: &str| format!("/v1/orders/{id}{path}");
    let purchase = json!({ "customer_id": OWNER, "items": [{ "sku": CHAIR, "quantity": 1 }] });
    let payment = json!({ "payment_reference": "pi_1" });
    let (get, post) = (Method::GET, Method::POST);
    for row in [
        row(post.clone(), "/v1/orders", Some(purchase), BUYERS, 202),
        row(get.clone(), order(""), None, READERS, 200),
        row(
            get.clone(),
            format!("/v1/orders?ids={id}"),
            None,
            READERS,
            200,
        ),
        row(get.clone(), order("/changes"), None, PARTIES, 200),
        row(
            post.clone(),
            order("/cancel"),
            Some(json!({})),
            PARTIES,
            202,
        ),
        row(
            post.clone(),
            order("/extend"),
            Some(json!({ "seconds": 60 })),
            STAFF,
            202,
        ),
        row(post.clone(), order("/confirm"), Some(payment), SHOP, 202),
        row(get, "/v1/payments/unmatched", None, SHOP, 200),
        row(
            post,
            "/v1/payments/unmatched/1/resolve",
            Some(json!({ "note": "x" })),
            SHOP,
            404,
        ),
    ] {
        doors.check(&row).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_administrators_change_the_inventory_and_everybody_sees_it() -> anyhow::Result<()> {
    let doors = Doors::set().await?;
    let chair = format!("/v1/inventory/{CHAIR}");
    let product = json!({
        "title": "Chair", "unit_price_minor": 4990, "currency": "EUR", "available": 100,
    });
    let quantity = Some(json!({ "quantity": 1 }));
    let title = Some(json!({ "title": "Stool" }));
    for row in [
        row(Method::GET, &*chair, None, &EVERYBODY, 200),
        row(Method::GET, "/v1/inventory", None, &EVERYBODY, 200),
        row(Method::PUT, &*chair, Some(product), ADMINS, 200),
        row(Method::PATCH, &*chair, title, ADMINS, 200),
        row(
            Method::POST,
            format!("{chair}/restock"),
            quantity,
            ADMINS,
            200,
        ),
    ] {
        doors.check(&row).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_administrators_turn_the_switch_and_read_the_record_of_changes() -> anyhow::Result<()>
{
    let doors = Doors::set().await?;
    let running = Some(json!({ "paused": false }));
    for row in [
        row(Method::GET, "/v1/sale", None, &EVERYBODY, 200),
        row(Method::PUT, "/v1/sale", running, ADMINS, 200),
        row(Method::GET, "/v1/audit", None, ADMINS, 200),
    ] {
        doors.check(&row).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_administrators_see_and_change_webhooks() -> anyhow::Result<()> {
    let doors = Doors::set().await?;
    let unknown = format!("/v1/webhooks/{}", uuid::Uuid::new_v4());
    let below = |path: &str| format!("{unknown}{path}");
    let (get, post) = (Method::GET, Method::POST);
    let span = json!({ "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z" });
    for row in [
        row(get.clone(), "/v1/webhooks", None, ADMINS, 200),
        row(post.clone(), "/v1/webhooks", Some(json!({})), ADMINS, 422),
        row(get.clone(), below(""), None, ADMINS, 404),
        row(Method::PATCH, below(""), Some(json!({})), ADMINS, 404),
        row(Method::DELETE, below(""), None, ADMINS, 404),
        row(post.clone(), below("/test"), None, ADMINS, 404),
        row(post.clone(), below("/rotate-secret"), None, ADMINS, 404),
        row(get, below("/deliveries"), None, ADMINS, 404),
        row(post, below("/replay"), Some(span), ADMINS, 404),
    ] {
        doors.check(&row).await?;
    }
    Ok(())
}

#[tokio::test]
async fn stripe_needs_a_signature_and_no_token_and_the_probes_need_neither() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("AUTH_SECRET", SECRET)
        .set("STRIPE_WEBHOOK_SECRET", "whsec_of_a_test_that_is_long")
        .start()
        .await?;
    let json: (&str, &[u8]) = ("content-type", b"application/json");
    let path = "/v1/payments/stripe";
    let answer = send(&ingest, Method::POST, path, &[json], "{}").await?;
    assert_refused(&answer, 400, "malformed");
    let wrong: (&str, &[u8]) = ("authorization", b"Bearer wrong");
    for probe in ["/livez", "/readyz"] {
        let answer = send(&ingest, Method::GET, probe, &[wrong], "").await?;
        assert_eq!(answer.status, 200, "{probe}");
    }
    Ok(())
}
