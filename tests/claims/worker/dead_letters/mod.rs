//! Claims about what cannot be settled: it is kept with its reason, and a person decides what becomes of it.

mod buried;
mod commands;

use std::process::Output;

use anyhow::ensure;
use hotrow_shared::topology::DEAD_QUEUE;
use hotrow_tests::wait;
use serde_json::Value;

use super::shop::{A_WHILE, Shop};

/// The database refuses the orders of one customer.
pub const CURSE: &str = "
    create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'orders of % are refused', new.customer_id; end $$;
    create trigger cursed before insert on orders for each row
        when (new.customer_id = 'cursed' and new.status <> 'failed') execute function refuse()";
const LIFT_THE_CURSE: &str = "drop trigger cursed on orders";
/// Enough for those who were refused.
const RESTOCK: &str = "
    update inventory set available = available + 10;
    insert into inventory_ledger (sku, kind, delta, balance)
    select sku, 'restock', 10, available from inventory";

/// Runs `hotrow-worker dead-letters` with these arguments.
pub async fn command(shop: &Shop, arguments: &[&str]) -> anyhow::Result<Output> {
    let arguments = [&["dead-letters"], arguments].concat();
    shop.worker().run(&arguments).await
}

/// Waits until there are so many dead letters and no command has one in hand: the broker takes them back some time after
/// the command is gone.
pub async fn all_back(shop: &Shop, letters: u32) -> anyhow::Result<()> {
    let what = format!("{letters} dead letters in the queue");
    wait::until(&what, A_WHILE, async || {
        let depth = shop.depth(DEAD_QUEUE).await.ok()?;
        (depth == (letters, 0)).then_some(())
    })
    .await
}

/// The dead letters, as the command shows them. It waits until the broker has taken back what was shown.
pub async fn list(shop: &Shop, selection: &[&str]) -> anyhow::Result<Vec<Value>> {
    let (before, _) = shop.depth(DEAD_QUEUE).await?;
    let listed = command(shop, &[&["list"], selection].concat()).await?;
    ensure!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    wait::until("the letters to be back", A_WHILE, async || {
        let (now, readers) = shop.depth(DEAD_QUEUE).await.ok()?;
        (now >= before && readers == 0).then_some(())
    })
    .await?;
    out(&listed)
        .lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
