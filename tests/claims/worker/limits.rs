//! Claims about limits per customer and windows, as the settlement keeps them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use hotrow_shared::change::{Ask, Expiry};
use hotrow_tests::{Client, client::Answer, law::Verdict, wait};
use serde_json::json;
use uuid::Uuid;

use super::{
    life::{cancel, pay},
    shop::{A_WHILE, Shop, ids_of},
};

/// Rejections for a limit of customers who had no more than the rest allows, at the moment of the settlement: what was
/// given back by the same settlement may have come after.
const WRONGLY_LIMITED: &str = "
    select count(*) from orders as rejected
    where rejected.reason = 'limit_reached' and not exists (
        select from json_to_recordset(rejected.items) as asked (sku text, quantity bigint)
        join inventory using (sku)
        where asked.quantity
              + (select coalesce(sum(item.quantity), 0)
                 from orders cross join json_to_recordset(items) as item (sku text, quantity bigint)
                 where orders.customer_id = rejected.customer_id and item.sku = asked.sku
                   and orders.status in ('reserved', 'confirmed') and orders.alias_of is null
                   and orders.settled_at <= rejected.settled_at)
              - (select coalesce(sum(item.quantity), 0)
                 from order_changes as changes join orders using (order_id)
                 cross join json_to_recordset(items) as item (sku text, quantity bigint)
                 where orders.customer_id = rejected.customer_id and item.sku = asked.sku
                   and changes.status in ('cancelled', 'expired') and changes.at < rejected.settled_at)
              > inventory.max_per_customer
    )";

/// The most that a customer has had of a product after any settlement.
const MOST_EVER: &str = "
    with moves as (
        select orders.customer_id, item.sku, settled_at as at, item.quantity
        from orders cross join json_to_recordset(items) as item (sku text, quantity bigint)
        where status in ('reserved', 'confirmed') and alias_of is null
        union all
        select orders.customer_id, item.sku, changes.at, -item.quantity
        from order_changes as changes join orders using (order_id)
        cross join json_to_recordset(items) as item (sku text, quantity bigint)
        where changes.status in ('cancelled', 'expired')
    )
    select max(total)::bigint
    from (select sum(quantity) over (partition by customer_id, sku order by at) as total from moves) as totals";

impl Shop {
    /// Limits what a customer may have, from now on.
    async fn limit(&self, sku: &str, pieces: i32) -> anyhow::Result<()> {
        sqlx::query(
            "update inventory set max_per_customer = $2, limited_since = clock_timestamp() where sku = $1",
        )
        .bind(sku)
        .bind(pieces)
        .execute(&self.database)
        .await?;
        Ok(())
    }
}

/// What one customer of the crowd does, who wants all that can be had.
async fn grab(door: Client, other: Client, number: usize) -> anyhow::Result<Vec<Uuid>> {
    let customer = format!("c-{number}");
    let key = format!("k-{number}");
    let mut accepted = Vec::new();
    let mut note = |answer: Answer| -> anyhow::Result<Uuid> {
        let id = answer.expect(202)?.order_id()?;
        accepted.push(id);
        Ok(id)
    };
    let first = note(door.order(&customer, &[("hot", 1)]).await?)?;
    let cart = [("warm", 1), ("hot", 1)];
    note(other.order_with_key(&customer, &cart, &key).await?)?;
    note(door.order_with_key(&customer, &cart, &key).await?)?;
    note(other.order(&customer, &[("hot", 2)]).await?)?;
    if number.is_multiple_of(3) {
        door.settled(first, 20).await?.expect(200)?;
        let cancelled = door.ask(first, "cancel", 0, json!({})).await?;
        cancelled.expect(202)?;
        note(other.order(&customer, &[("hot", 1), ("cold", 2)]).await?)?;
    }
    note(door.order(&customer, &[("hot", 1)]).await?)?;
    accepted.sort_unstable();
    accepted.dedup();
    Ok(accepted)
}

#[tokio::test]
#[ignore = "takes more than 20 s"]
async fn of_10_000_customers_none_gets_more_than_two_and_none_with_fewer_is_refused()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    for sku in ["hot", "warm", "cold"] {
        shop.stock(sku, 1_000_000).await?;
        shop.limit(sku, 2).await?;
    }
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (first, _second, left, right) = tokio::try_join!(
        worker.start(),
        worker.start(),
        ingest.start(),
        ingest.start()
    )?;
    let (left, right) = (left.client()?, right.client()?);
    let crowd = stream::iter(0..10_000).map(|number| grab(left.clone(), right.clone(), number));
    let accepted: Vec<_> = crowd.buffer_unordered(200).try_collect().await?;
    let accepted: Arc<[Uuid]> = accepted.into_iter().flatten().collect();
    let verdict = wait::until("everything to be settled", A_WHILE, async || {
        let mut connection = shop.database.acquire().await.ok()?;
        let verdict = Verdict::read(&mut connection, &accepted).await.ok()?;
        (verdict.lost() == 0).then_some(verdict)
    })
    .await?;
    assert!(verdict.holds(), "{verdict}");
    // Whoever wants more than two gets two.
    let served: i64 = sqlx::query_scalar(
        "select count(*) from customer_goods where sku = 'hot' and quantity = 2",
    )
    .fetch_one(&shop.database)
    .await?;
    assert_eq!(
        served, 10_000,
        "everybody asked until nothing more was to be had"
    );
    let most: i64 = sqlx::query_scalar(MOST_EVER)
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(most, 2);
    let wrongly: i64 = sqlx::query_scalar(WRONGLY_LIMITED)
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(wrongly, 0);
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&shop.database)
    .await?;
    assert_eq!(deadlocks, 0);
    let audit = shop.worker().run(&["audit"]).await?;
    assert!(
        audit.status.success(),
        "{}",
        String::from_utf8_lossy(&audit.stdout)
    );
    drop(first);
    Ok(())
}

#[tokio::test]
async fn an_order_accepted_a_millisecond_before_the_opening_is_rejected_whenever_it_is_settled()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    let now = Utc::now();
    sqlx::query("update inventory set opens_at = $1, closes_at = $2")
        .bind(ms(now.timestamp_millis() - 2_000))
        .bind(ms(now.timestamp_millis() - 1_000))
        .execute(&shop.database)
        .await?;
    let orders: Vec<_> = [-2_001, -2_000, -1_001, -1_000]
        .map(|ago| {
            let mut order = shop.order("c", &[("chair", 1)]);
            order.accepted_ms = now.timestamp_millis() + ago;
            order
        })
        .into();
    shop.publish(&orders).await?;
    let _worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    let outcomes = shop.outcomes(&orders).await?;
    assert_eq!(outcomes, ["not_open", "confirmed", "confirmed", "closed"]);
    shop.books(&orders).await?;
    Ok(())
}

fn ms(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

#[tokio::test]
async fn what_expires_or_is_cancelled_is_given_back_and_a_late_payment_beyond_the_limit_is_unmatched()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_held("chair", 10, 1).await?;
    let old = shop.order("c", &[("chair", 2)]);
    let worker = shop.hasty_worker().start().await?;
    shop.publish(std::slice::from_ref(&old)).await?;
    // Before there is a limit: this order does not count, and gives nothing back.
    shop.becomes(&old, "expired", 2).await?;
    shop.limit("chair", 2).await?;
    let first = shop.order("c", &[("chair", 2)]);
    shop.publish(std::slice::from_ref(&first)).await?;
    shop.becomes(&first, "expired", 2).await?;
    shop.hold_for("chair", Some(600)).await?;
    let second = shop.order("c", &[("chair", 1)]);
    let orders = [second.clone(), shop.order("c", &[("chair", 2)])];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(shop.outcomes(&orders).await?, ["reserved", "limit_reached"]);

    // The goods are there, and the customer has one of two already.
    shop.ask(&[(&first, pay("pi_late"))]).await?;
    let unmatched = wait::until("the payment to be listed", A_WHILE, async || {
        let unmatched = shop.unmatched().await.ok()?;
        (!unmatched.is_empty()).then_some(unmatched)
    })
    .await?;
    assert_eq!(
        unmatched,
        [("pi_late".to_owned(), "limit_reached".to_owned())]
    );
    shop.ask(&[(&second, cancel(true))]).await?;
    shop.becomes(&second, "cancelled", 2).await?;
    shop.ask(&[(&first, pay("pi_later"))]).await?;
    shop.becomes(&first, "confirmed", 3).await?;
    shop.ask(&[(&first, Ask::Expire(Expiry {}))]).await?;
    let third = [shop.order("c", &[("chair", 1)])];
    shop.publish(&third).await?;
    shop.settled(&third, A_WHILE).await?;
    assert_eq!(
        shop.outcomes(&third).await?,
        ["limit_reached"],
        "paid late counts"
    );
    shop.ask(&[(&first, cancel(false))]).await?;
    shop.becomes(&first, "cancelled", 4).await?;
    let fourth = [shop.order("c", &[("chair", 2)])];
    shop.publish(&fourth).await?;
    shop.settled(&fourth, A_WHILE).await?;
    assert_eq!(
        shop.outcomes(&fourth).await?,
        ["reserved"],
        "the customer has it no more"
    );
    let verdict = Verdict::read(&mut *shop.database.acquire().await?, &ids_of(&fourth)).await?;
    assert!(verdict.holds(), "{verdict}");
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_count_that_is_wrong_is_found_by_the_audit_and_one_of_an_ended_limit_or_of_nothing_is_forgotten()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.limit("chair", 5).await?;
    let worker = shop.worker().start().await?;
    let orders = [
        shop.order("c", &[("chair", 2)]),
        shop.order("d", &[("chair", 1)]),
    ];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    let audit = async || shop.worker().run(&["audit"]).await;
    assert!(audit().await?.status.success());
    for change in [
        "update customer_goods set quantity = 1 where customer_id = 'c'",
        "delete from customer_goods where customer_id = 'd'",
    ] {
        sqlx::query(change).execute(&shop.database).await?;
    }
    let found = audit().await?;
    assert!(!found.status.success());
    let said = String::from_utf8_lossy(&found.stdout);
    for customer in ["c", "d"] {
        let line =
            format!("chair: what customers have and what is counted do not add up: {customer}");
        assert!(said.contains(&line), "{said}");
    }
    drop(worker);
    // Who has nothing any more needs no row, also while the limit goes on.
    sqlx::query("insert into customer_goods select 'chair', 'e', limited_since, 0 from inventory")
        .execute(&shop.database)
        .await?;
    let worker = shop.worker().start().await?;
    wait::until("an empty count to be gone", A_WHILE, async || {
        let customers = sqlx::query_scalar("select customer_id from customer_goods");
        let customers: Vec<String> = customers.fetch_all(&shop.database).await.ok()?;
        (customers == ["c"]).then_some(())
    })
    .await?;
    drop(worker);
    // From now on everything counts anew, and what was counted is of no use.
    shop.limit("chair", 5).await?;
    let _worker = shop.worker().start().await?;
    wait::until("old counts to be gone", A_WHILE, async || {
        let counts = sqlx::query_scalar("select count(*) from customer_goods");
        let counts: i64 = counts.fetch_one(&shop.database).await.ok()?;
        (counts == 0).then_some(())
    })
    .await
}
