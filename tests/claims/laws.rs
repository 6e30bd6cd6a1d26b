//! Claims about the judge: the conservation check finds what is wrong with the books.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hotrow_tests::{Place, law::Verdict};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, migrate::Migrator};
use tokio::time::timeout;
use uuid::Uuid;

/// Long for anything that works, on a machine with other things to do.
const A_WHILE: Duration = Duration::from_mins(1);
const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);

#[tokio::test]
async fn books_in_order_pass() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    let verdict = Verdict::read(&mut database, &[FIRST, SECOND]).await?;
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(
        (verdict.outcomes.confirmed, verdict.outcomes.sold_out),
        (1, 1)
    );
    Ok(())
}

#[tokio::test]
async fn a_lost_order_is_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    let lost = Uuid::from_u128(3);
    let verdict = Verdict::read(&mut database, &[FIRST, lost, SECOND]).await?;
    assert_eq!(verdict.lost, [lost]);
    assert!(!verdict.holds());
    Ok(())
}

#[tokio::test]
async fn an_effect_that_came_twice_is_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    settle(&mut database, 3, 4).await?;
    let verdict = Verdict::read(&mut database, &[FIRST]).await?;
    assert_eq!(
        verdict.doubled(),
        3,
        "the ledger took 3 chairs for no order"
    );
    assert!(!verdict.holds());
    Ok(())
}

#[tokio::test]
async fn an_id_given_to_two_orders_is_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    let verdict = Verdict::read(&mut database, &[FIRST, FIRST]).await?;
    assert_eq!(verdict.doubled(), 1);
    Ok(())
}

#[tokio::test]
async fn more_promised_than_there_was_is_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    confirm(&mut database, Uuid::from_u128(4), 9, None).await?;
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert_eq!(verdict.oversold(), 2, "3 and 9 of 10");
    assert!(!verdict.holds());
    Ok(())
}

#[tokio::test]
async fn a_balance_that_does_not_follow_is_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    database
        .execute("update inventory_ledger set balance = 8 where kind = 'settlement'")
        .await?;
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert!(!verdict.holds());
    assert_eq!(verdict.accounts[0].wrong_balances, 1);
    Ok(())
}

#[tokio::test]
async fn an_entry_that_moved_other_goods_than_it_says_is_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    let says = |taken: i64, released: i64| {
        let says =
            "update inventory_ledger set taken = $1, released = $2 where kind = 'settlement'";
        sqlx::query(says).bind(taken).bind(released)
    };
    says(5, 2).execute(&mut database).await?;
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert!(verdict.holds(), "{verdict}");
    says(5, 1).execute(&mut database).await?;
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert!(!verdict.holds());
    assert_eq!(verdict.accounts[0].wrong_moves, 1);
    Ok(())
}

#[tokio::test]
async fn goods_that_are_held_for_no_order_are_found() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    database.execute("update inventory set held = 3").await?;
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert!(!verdict.holds());
    database
        .execute("update orders set status = 'reserved' where status = 'confirmed'")
        .await?;
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert!(verdict.holds(), "{verdict}");
    Ok(())
}

#[tokio::test]
async fn another_name_of_an_order_has_no_effect() -> anyhow::Result<()> {
    let (_place, mut database) = books().await?;
    let alias = Uuid::from_u128(5);
    confirm(&mut database, alias, 3, Some(FIRST)).await?;
    let verdict = Verdict::read(&mut database, &[FIRST, SECOND, alias]).await?;
    assert!(verdict.holds(), "{verdict}");
    Ok(())
}

#[tokio::test]
async fn a_verdict_is_of_one_moment_while_orders_are_settled() -> anyhow::Result<()> {
    // As many as it takes for a reader that is given little time.
    const SETTLED_MAX: u32 = 100_000;
    const MOMENTS: usize = 6;
    let (place, mut reader) = books().await?;
    let mut writer = place.database().await?;
    let is_seen = AtomicBool::new(false);
    let write = async {
        writer
            .execute(
                "update inventory set available = 100007;
                 insert into inventory_ledger (sku, kind, delta, balance)
                 values ('chair', 'restock', 100000, 100007)",
            )
            .await?;
        for number in 1..=SETTLED_MAX {
            if is_seen.load(Ordering::Relaxed) {
                break;
            }
            let mut transaction = writer.begin().await?;
            let order_id = Uuid::from_u128(100 + u128::from(number));
            confirm(&mut transaction, order_id, 1, None).await?;
            settle(&mut transaction, 1, 100_007 - i64::from(number)).await?;
            transaction.commit().await?;
        }
        anyhow::Ok(())
    };
    let read = async {
        let mut moments = BTreeSet::new();
        while moments.len() < MOMENTS {
            let verdict = Verdict::read(&mut reader, &[FIRST, SECOND]).await?;
            let account = &verdict.accounts[0];
            assert_eq!(account.confirmed_orders, verdict.outcomes.confirmed);
            assert!(verdict.holds(), "{verdict}");
            moments.insert(verdict.outcomes.confirmed);
        }
        is_seen.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    timeout(A_WHILE, async { tokio::try_join!(write, read) }).await??;
    Ok(())
}

/// Ten chairs, three of them sold to the first order, none to the second.
async fn books() -> anyhow::Result<(Place, PgConnection)> {
    let place = Place::new().await?;
    let mut database = place.database().await?;
    Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations"))
        .await?
        .run(&mut database)
        .await?;
    database
        .execute(
            "create table orders_of_any_day partition of orders default;
             insert into inventory (sku, title, unit_price_minor, currency, available)
             values ('chair', 'Chair', 4990, 'EUR', 10);
             insert into inventory_ledger (sku, kind, delta, balance) values ('chair', 'put', 10, 10)",
        )
        .await?;
    confirm(&mut database, FIRST, 3, None).await?;
    settle(&mut database, 3, 7).await?;
    let sold_out = "insert into orders (order_id, status, reason, customer_id, items, accepted_at)
                    values ($1, 'rejected', 'sold_out', 'c', '[{\"sku\": \"chair\", \"quantity\": 8}]', now())";
    sqlx::query(sold_out)
        .bind(SECOND)
        .execute(&mut database)
        .await?;
    Ok((place, database))
}

async fn confirm(
    database: &mut PgConnection,
    order_id: Uuid,
    quantity: u32,
    alias_of: Option<Uuid>,
) -> anyhow::Result<()> {
    let items =
        format!(r#"[{{"sku": "chair", "quantity": {quantity}, "unit_price_minor": 4990}}]"#);
    sqlx::query(
        "insert into orders (order_id, status, customer_id, items, accepted_at, alias_of)
         values ($1, 'confirmed', 'c', $2::json, now(), $3)",
    )
    .bind(order_id)
    .bind(items)
    .bind(alias_of)
    .execute(database)
    .await?;
    Ok(())
}

/// One order's row write: `units` taken, `left` left.
async fn settle(database: &mut PgConnection, units: i64, left: i64) -> anyhow::Result<()> {
    let statement = format!(
        "insert into inventory_ledger (sku, kind, delta, balance, orders) values ('chair', 'settlement', -{units}, {left}, 1);
         update inventory set available = {left}"
    );
    database.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}
