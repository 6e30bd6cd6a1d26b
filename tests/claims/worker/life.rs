//! Claims about the life of an order: held, paid, cancelled, extended, expired, and no unit twice.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    change::{Actor, Ask, Cancellation, Change, Expiry, Extension, Payment, Role},
    envelope::{self, Command, Order},
};
use hotrow_tests::{Settings, wait};
use sqlx::FromRow;

use super::shop::{A_WHILE, Shop, counts, counts_at_least};

/// An order as it stands, by the view that every process reads.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Now {
    pub status: String,
    pub reason: Option<String>,
    pub revision: i32,
    pub expires_at: Option<DateTime<Utc>>,
    pub payment_reference: Option<String>,
    pub restocked: Option<bool>,
}

impl Now {
    pub fn stands(&self) -> (&str, i32) {
        (&self.status, self.revision)
    }
}

impl Shop {
    /// Puts a product on the shelf that is held for so many seconds.
    pub async fn stock_held(&self, sku: &str, available: i64, seconds: i32) -> anyhow::Result<()> {
        self.stock(sku, available).await?;
        self.hold_for(sku, Some(seconds)).await
    }

    pub async fn hold_for(&self, sku: &str, seconds: Option<i32>) -> anyhow::Result<()> {
        sqlx::query(
            "update inventory set hold_seconds = $2, hold_seconds_max = greatest($2, 3600) where sku = $1",
        )
        .bind(sku)
        .bind(seconds)
        .execute(&self.database)
        .await?;
        Ok(())
    }

    /// A worker that expires holds at once when they are over.
    pub fn hasty_worker(&self) -> Settings {
        self.worker()
            .set("DEVELOPMENT", "true")
            .set("HOLD_GRACE", "0s")
    }

    pub async fn now(&self, order: &Order) -> anyhow::Result<Now> {
        let now = sqlx::query_as(
            "select status, reason, revision, expires_at, payment_reference, restocked
             from orders_now where order_id = $1",
        );
        Ok(now.bind(order.id.uuid()).fetch_one(&self.database).await?)
    }

    /// Waits until an order is this, in this revision.
    pub async fn becomes(&self, order: &Order, status: &str, revision: i32) -> anyhow::Result<Now> {
        let what = format!("the order to be {status}, revision {revision}");
        wait::until(&what, A_WHILE, async || {
            let now = self.now(order).await.ok()?;
            (now.stands() == (status, revision)).then_some(now)
        })
        .await
    }

    /// Queues what is asked of orders of one partition as one envelope.
    pub async fn ask(&self, asked: &[(&Order, Ask)]) -> anyhow::Result<()> {
        let now_ms = Utc::now().timestamp_millis();
        let commands: Vec<_> = asked
            .iter()
            .map(|(order, ask)| change(order, ask.clone(), now_ms))
            .collect();
        self.command(&commands).await
    }

    /// Queues commands of one partition as one envelope.
    async fn command(&self, commands: &[Command]) -> anyhow::Result<()> {
        let partition = commands[0].partition(self.partition_count());
        let encoded: Vec<_> = commands.iter().map(Command::encode).collect();
        self.send(partition, &envelope::join(&encoded)).await
    }

    /// What is free to sell of a product, and what is held.
    pub async fn shelf(&self, sku: &str) -> anyhow::Result<(i64, i64)> {
        let select = "select available, held from inventory where sku = $1";
        Ok(sqlx::query_as(select)
            .bind(sku)
            .fetch_one(&self.database)
            .await?)
    }

    pub async fn unmatched(&self) -> anyhow::Result<Vec<(String, String)>> {
        let unmatched =
            sqlx::query_as("select payment_reference, why from unmatched_payments order by id");
        Ok(unmatched.fetch_all(&self.database).await?)
    }
}

fn change(order: &Order, ask: Ask, accepted_ms: i64) -> Command {
    let role = if matches!(ask, Ask::Expire(_)) {
        Role::System
    } else {
        Role::Admin
    };
    Command::Change(Change {
        order_id: order.id,
        skus: order
            .items
            .as_slice()
            .iter()
            .map(|item| item.sku.clone())
            .collect(),
        accepted_ms,
        by: Actor {
            role,
            name: Some("admin-token".to_owned()),
        },
        request_id: None,
        ticket: None,
        ask,
    })
}

pub fn pay(reference: &str) -> Ask {
    Ask::Confirm(Payment {
        reference: reference.to_owned(),
        amount_minor: None,
        currency: None,
    })
}

pub fn cancel(restock: bool) -> Ask {
    Ask::Cancel(Cancellation {
        reason: None,
        restock,
    })
}

#[tokio::test]
async fn held_goods_leave_the_stock_and_a_payment_ends_the_hold() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 3, 600).await?;
    let _worker = shop.worker().start().await?;
    let (order, late) = (
        shop.order("c", &[("hot", 2)]),
        shop.order("d", &[("hot", 2)]),
    );
    shop.publish(&[order.clone(), late.clone()]).await?;
    let reserved = shop.becomes(&order, "reserved", 1).await?;
    assert_eq!(shop.shelf("hot").await?, (1, 2));
    assert_eq!(shop.row(&late).await?.outcome(), "sold_out");
    let settled_at = shop.row(&order).await?.settled_at;
    let held_for = reserved.expires_at.map(|end| end - settled_at);
    assert_eq!(held_for.map(|it| it.num_seconds()), Some(600));

    shop.ask(&[(&order, pay("pi_1"))]).await?;
    let paid = shop.becomes(&order, "confirmed", 2).await?;
    assert_eq!(paid.payment_reference.as_deref(), Some("pi_1"));
    assert_eq!((paid.expires_at, paid.reason), (None, None));
    assert_eq!(shop.shelf("hot").await?, (1, 0));
    shop.books(&[order, late]).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_that_comes_twice_changes_once() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 3, 600).await?;
    let worker = shop.worker().start().await?;
    let (paid, gone) = (
        shop.order("c", &[("hot", 1)]),
        shop.order("d", &[("hot", 1)]),
    );
    shop.publish(&[paid.clone(), gone.clone()]).await?;
    shop.becomes(&gone, "reserved", 1).await?;
    let asked = [
        (&paid, pay("pi_1")),
        (&gone, cancel(true)),
        (&paid, pay("pi_1")),
    ];
    shop.ask(&asked).await?;
    shop.ask(&asked).await?;
    shop.becomes(&paid, "confirmed", 2).await?;
    let name = "hotrow_order_changes_total";
    counts(&worker, name, &[("answer", "changed")], 2).await?;
    counts(&worker, name, &[("answer", "unchanged")], 4).await?;
    assert_eq!(shop.now(&gone).await?.stands(), ("cancelled", 2));
    assert_eq!(shop.shelf("hot").await?, (2, 0));
    shop.books(&[paid, gone]).await?;
    Ok(())
}

#[tokio::test]
async fn a_command_of_somebody_who_may_not_changes_nothing_although_a_door_let_it_in()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 3, 600).await?;
    let worker = shop.worker().start().await?;
    let order = shop.order("c", &[("hot", 1)]);
    shop.publish(std::slice::from_ref(&order)).await?;
    shop.becomes(&order, "reserved", 1).await?;
    let extend = Ask::Extend(Extension { seconds: 3_600 });
    let forbidden = [
        (cancel(true), Role::Customer, "d"),
        (extend, Role::Customer, "c"),
        (pay("pi_1"), Role::Customer, "c"),
        (pay("pi_2"), Role::Support, "c"),
        (Ask::Expire(Expiry {}), Role::Admin, "admin-token"),
    ];
    let commands = forbidden.map(|(ask, role, name)| {
        let mut command = change(&order, ask, Utc::now().timestamp_millis());
        if let Command::Change(change) = &mut command {
            change.by = Actor {
                role,
                name: Some(name.to_owned()),
            };
        }
        command
    });
    shop.command(&commands).await?;
    let name = "hotrow_order_changes_total";
    counts(&worker, name, &[("answer", "conflict")], 5).await?;
    assert_eq!(shop.now(&order).await?.stands(), ("reserved", 1));
    assert_eq!(shop.shelf("hot").await?, (2, 1));
    assert!(shop.unmatched().await?.is_empty());
    shop.books(&[order]).await?;
    Ok(())
}

#[tokio::test]
async fn goods_of_a_hold_that_is_over_come_back_and_go_to_others() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let skus = shop.sku_of_each_partition();
    let (one, other) = (skus[0].as_str(), skus[1].as_str());
    shop.stock_held(one, 2, 1).await?;
    shop.stock(other, 2).await?;
    let _worker = shop.hasty_worker().start().await?;
    // A cart with one held item is held whole and comes back whole.
    let first = shop.order("c", &[(one, 2), (other, 2)]);
    shop.publish(std::slice::from_ref(&first)).await?;
    let expired = shop.becomes(&first, "expired", 2).await?;
    assert_eq!(expired.reason.as_deref(), Some("not_paid"));
    assert_eq!(
        (shop.shelf(one).await?, shop.shelf(other).await?),
        ((2, 0), (2, 0))
    );

    shop.hold_for(one, None).await?;
    let second = shop.order("d", &[(one, 2), (other, 2)]);
    shop.publish(std::slice::from_ref(&second)).await?;
    shop.becomes(&second, "confirmed", 1).await?;
    let holds: i64 = sqlx::query_scalar("select count(*) from holds")
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(holds, 0);
    shop.books(&[first, second]).await?;
    Ok(())
}

#[tokio::test]
async fn a_payment_that_was_accepted_before_the_end_of_a_hold_wins_however_late_it_is_settled()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 1, 2).await?;
    let first = shop.hasty_worker().start().await?;
    let order = shop.order("c", &[("hot", 1)]);
    shop.publish(std::slice::from_ref(&order)).await?;
    let reserved = shop.becomes(&order, "reserved", 1).await?;
    first.kill()?;

    // Accepted in time, while nobody settles. When somebody does, the hold is over long since.
    shop.ask(&[(&order, pay("pi_1"))]).await?;
    let end = reserved.expires_at.expect("it is reserved");
    wait::until("the hold to be over", A_WHILE, async || {
        (Utc::now() > end + chrono::TimeDelta::seconds(1)).then_some(())
    })
    .await?;
    shop.ask(&[(&order, Ask::Expire(Expiry {}))]).await?;
    let worker = shop.hasty_worker().start().await?;
    shop.becomes(&order, "confirmed", 2).await?;
    let expired = [("kind", "expire"), ("answer", "unchanged")];
    counts_at_least(&worker, "hotrow_order_changes_total", &expired, 1).await?;
    assert_eq!(shop.now(&order).await?.stands(), ("confirmed", 2));
    shop.books(&[order]).await?;
    Ok(())
}

#[tokio::test]
async fn a_late_payment_confirms_if_the_goods_are_there_and_is_unmatched_once_if_not()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 2, 1).await?;
    let worker = shop.hasty_worker().start().await?;
    let (lucky, late) = (
        shop.order("c", &[("hot", 1)]),
        shop.order("d", &[("hot", 1)]),
    );
    shop.publish(&[lucky.clone(), late.clone()]).await?;
    shop.becomes(&lucky, "expired", 2).await?;
    shop.becomes(&late, "expired", 2).await?;
    shop.hold_for("hot", None).await?;
    let other = shop.order("e", &[("hot", 1)]);
    shop.publish(std::slice::from_ref(&other)).await?;
    shop.becomes(&other, "confirmed", 1).await?;

    shop.ask(&[(&lucky, pay("pi_1"))]).await?;
    shop.becomes(&lucky, "confirmed", 3).await?;
    for _ in 0..3 {
        shop.ask(&[(&late, pay("pi_2"))]).await?;
    }
    // The goods come back, which does not help the payment that was given up.
    shop.ask(&[
        (&other, cancel(true)),
        (&late, pay("pi_2")),
        (&late, pay("pi_2")),
    ])
    .await?;
    shop.becomes(&other, "cancelled", 2).await?;
    let labels = [("kind", "confirm"), ("answer", "unmatched")];
    counts(&worker, "hotrow_order_changes_total", &labels, 1).await?;
    assert_eq!(shop.now(&late).await?.stands(), ("expired", 2));
    let expected = [("pi_2".to_owned(), "expired".to_owned())];
    assert_eq!(shop.unmatched().await?, expected);
    assert_eq!(shop.shelf("hot").await?, (1, 0));
    shop.books(&[lucky, late, other]).await?;
    Ok(())
}

#[tokio::test]
async fn every_payment_ends_as_a_confirmed_order_or_as_one_line_of_the_list() -> anyhow::Result<()>
{
    let shop = Shop::open(1).await?;
    shop.stock("hot", 4).await?;
    let worker = shop.worker().start().await?;
    let order = |customer| shop.order(customer, &[("hot", 1)]);
    let (plain, gone, wrong) = (order("c"), order("d"), order("e"));
    let rejected = shop.order("f", &[("hot", 9)]);
    let unknown = order("nobody");
    let all = [plain.clone(), gone.clone(), wrong.clone(), rejected.clone()];
    shop.publish(&all).await?;
    shop.settled(&all, A_WHILE).await?;
    let short = Ask::Confirm(Payment {
        reference: "pi_short".to_owned(),
        amount_minor: Some(999),
        currency: Some("EUR".to_owned()),
    });
    shop.ask(&[
        // A confirmed order without a reference takes the first one.
        (&plain, pay("pi_1")),
        (&plain, pay("pi_2")),
        (&gone, cancel(false)),
        (&gone, pay("pi_gone")),
        (&wrong, short),
        (&rejected, pay("pi_rejected")),
        (&unknown, pay("pi_unknown")),
    ])
    .await?;
    let unmatched = [("kind", "confirm"), ("answer", "unmatched")];
    counts(&worker, "hotrow_order_changes_total", &unmatched, 5).await?;
    let unmatched: Vec<_> = shop.unmatched().await?;
    let unmatched: Vec<_> = unmatched
        .iter()
        .map(|(reference, why)| (reference.as_str(), why.as_str()))
        .collect();
    let expected = [
        ("pi_2", "paid_by_another"),
        ("pi_gone", "cancelled"),
        ("pi_short", "wrong_amount"),
        ("pi_rejected", "rejected"),
        ("pi_unknown", "unknown_order"),
    ];
    assert_eq!(unmatched, expected);
    assert_eq!(
        shop.now(&plain).await?.payment_reference.as_deref(),
        Some("pi_1")
    );
    let gone_now = shop.now(&gone).await?;
    assert_eq!(
        (gone_now.restocked, gone_now.reason.as_deref()),
        (Some(false), Some("by_shop"))
    );
    assert_eq!(
        shop.shelf("hot").await?,
        (1, 0),
        "cancelled without its goods"
    );
    shop.books(&all).await?;
    Ok(())
}

#[tokio::test]
async fn an_extension_counts_from_its_acceptance_and_never_shortens_a_hold() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 1, 600).await?;
    let worker = shop.worker().start().await?;
    let order = shop.order("c", &[("hot", 1)]);
    shop.publish(std::slice::from_ref(&order)).await?;
    let reserved = shop.becomes(&order, "reserved", 1).await?;
    let extend = |seconds| Ask::Extend(Extension { seconds });
    shop.ask(&[(&order, extend(1))]).await?;
    let unchanged = [("kind", "extend"), ("answer", "unchanged")];
    counts(&worker, "hotrow_order_changes_total", &unchanged, 1).await?;
    assert_eq!(shop.now(&order).await?, reserved);
    shop.ask(&[(&order, extend(86_400))]).await?;
    let extended = shop.becomes(&order, "reserved", 2).await?;
    let settled_at = shop.row(&order).await?.settled_at;
    let held_for = extended
        .expires_at
        .map(|end| (end - settled_at).num_seconds());
    assert_eq!(held_for, Some(3_600), "cut at hold_seconds_max");
    let due: DateTime<Utc> = sqlx::query_scalar("select expires_at from holds")
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(Some(due), extended.expires_at);
    shop.books(&[order]).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_after_a_commit_of_changes_leaves_each_of_them_done_once()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("hot", 20, 600).await?;
    let first = shop.worker().start().await?;
    let orders: Vec<_> = (0..20).map(|_| shop.order("c", &[("hot", 1)])).collect();
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    let proxy = hotrow_tests::Proxy::in_front_of(&shop.place.amqp_url).await?;
    first.kill()?;
    let killed = shop
        .worker()
        .set("AMQP_URL", proxy.url(&shop.place.amqp_url)?)
        .start()
        .await?;
    let held = shop.hold(&["hot"]).await?;
    let asked: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(number, order)| {
            let ask = if number % 2 == 0 {
                pay("pi")
            } else {
                cancel(true)
            };
            (order, ask)
        })
        .collect();
    shop.ask(&asked).await?;
    shop.waits_for_a_lock(1).await?;
    proxy.set(hotrow_tests::Mode::Stall).await?;
    drop(held);
    shop.becomes(&orders[19], "cancelled", 2).await?;
    killed.kill()?;
    proxy.set(hotrow_tests::Mode::Refuse).await?;

    let next = shop.worker().start().await?;
    let name = "hotrow_order_changes_total";
    counts(&next, name, &[("answer", "unchanged")], 20).await?;
    counts(&next, name, &[("answer", "changed")], 0).await?;
    for (number, order) in orders.iter().enumerate() {
        let status = if number % 2 == 0 {
            "confirmed"
        } else {
            "cancelled"
        };
        assert_eq!(shop.now(order).await?.stands(), (status, 2));
    }
    assert_eq!(shop.shelf("hot").await?, (10, 0));
    shop.books(&orders).await?;
    Ok(())
}
