//! The conservation law, and what became of accepted orders, read from PostgreSQL by a query that
//! shares nothing with the product's own audit.

use std::{collections::BTreeSet, fmt};

use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

/// One SKU's books. Aliases, other names of an order, move nothing and do not count.
const ACCOUNTS: &str = "
    with latest as (
        select distinct on (order_id) * from order_changes order by order_id, revision desc
    ),
    ordered as (
        select item ->> 'sku' as sku, (item ->> 'quantity')::bigint as quantity,
               coalesce(latest.status, orders.status) as status,
               coalesce(latest.restocked, false) as restocked,
               (orders.status in ('confirmed', 'reserved'))::integer
                   + (select count(*) from order_changes as late
                      where late.order_id = orders.order_id and late.goods = 'taken') as takings
        from orders
        left join latest using (order_id)
        cross join lateral jsonb_array_elements(items::jsonb) as item
        where alias_of is null
    ),
    confirmed as (
        select sku,
               coalesce(sum(quantity) filter (where status in ('confirmed', 'reserved')
                                                 or (status = 'cancelled' and not restocked)), 0) as units,
               coalesce(sum(quantity) filter (where status = 'reserved'), 0) as reserved,
               sum(takings) as orders
        from ordered
        group by sku
    ),
    moved as (
        select sku, sum(delta) as units,
               -coalesce(sum(delta) filter (where kind = 'settlement'), 0) as settled,
               coalesce(sum(delta) filter (where kind <> 'settlement'), 0) as stocked,
               coalesce(sum(orders) filter (where kind = 'settlement'), 0) as orders,
               count(*) filter (where balance <> running_balance) as wrong_balances,
               -- Entries that say nothing of it are of a release before holds.
               count(*) filter (where delta <> released - taken) as wrong_moves
        from (select *, sum(delta) over (partition by sku order by id) as running_balance
              from inventory_ledger) as ledger
        group by sku
    )
    select sku,
           coalesce(available, 0) as available,
           coalesce(held, 0) as held,
           coalesce(confirmed.reserved, 0)::bigint as reserved,
           coalesce(stocked, 0)::bigint as stocked,
           coalesce(confirmed.units, 0)::bigint as confirmed,
           coalesce(settled, 0)::bigint as settled,
           coalesce(moved.units, 0)::bigint as ledger,
           coalesce(confirmed.orders, 0)::bigint as confirmed_orders,
           coalesce(moved.orders, 0)::bigint as settled_orders,
           coalesce(wrong_balances, 0) as wrong_balances,
           coalesce(wrong_moves, 0) as wrong_moves
    from inventory full join confirmed using (sku) full join moved using (sku)
    order by sku";

/// Customers whose count of a limited SKU is not what their orders hold or have bought since the limit began, or is more
/// than the limit.
const MISCOUNTED: &str = "
    with latest as (
        select distinct on (order_id) * from order_changes order by order_id, revision desc
    ),
    owned as (
        select item ->> 'sku' as sku, customer_id, sum((item ->> 'quantity')::bigint) as quantity
        from orders
        left join latest using (order_id)
        cross join lateral jsonb_array_elements(items::jsonb) as item
        join inventory on inventory.sku = item ->> 'sku'
        where alias_of is null and coalesce(latest.status, orders.status) in ('confirmed', 'reserved')
          and coalesce((select max(late.at) from order_changes as late
                        where late.order_id = orders.order_id and late.goods = 'taken'), orders.settled_at)
              >= inventory.limited_since
        group by 1, 2
    ),
    counted as (
        select sku, customer_id, quantity
        from customer_goods join inventory using (sku)
        where customer_goods.since = inventory.limited_since
    )
    select count(*)
    from owned full join counted using (sku, customer_id) join inventory using (sku)
    where coalesce(owned.quantity, 0) <> coalesce(counted.quantity, 0)
       or coalesce(owned.quantity, 0) > inventory.max_per_customer";

/// All statements within it see the books as the first of them does, whatever is settled meanwhile.
const ONE_MOMENT: &str = "begin isolation level repeatable read read only";

/// Orders by what settling first made of them; one whose goods are held counts as confirmed.
const OUTCOMES: &str = "
    select count(*) filter (where status in ('confirmed', 'reserved')) as confirmed,
           count(*) filter (where status = 'rejected' and reason = 'sold_out') as sold_out,
           count(*) filter (where status = 'rejected' and reason <> 'sold_out') as rejected_otherwise,
           count(*) filter (where status = 'failed') as failed,
           count(*) - count(distinct order_id) as rows_too_many
    from orders where alias_of is null";

/// Which of these orders have no outcome.
const LOST: &str = "
    select accepted.order_id
    from unnest($1::uuid[]) as accepted (order_id)
    where not exists (select from orders where orders.order_id = accepted.order_id)";

/// A SKU's books; the law relates their columns.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Account {
    /// The SKU.
    pub sku: String,
    /// What its inventory row says is left.
    pub available: i64,
    /// What its inventory row says is held.
    pub held: i64,
    /// What the reserved orders ask for together.
    pub reserved: i64,
    /// What was put up for sale, by all changes but settlements. An opening stands for days that are gone.
    pub stocked: i64,
    /// What the orders have that hold or bought their goods, and those whose goods did not come back.
    pub confirmed: i64,
    /// What the settlements took less what they gave back, by the ledger.
    pub settled: i64,
    /// The sum of all changes in the ledger.
    pub ledger: i64,
    /// How often orders took some: once each, and again where an expired one was paid late.
    pub confirmed_orders: i64,
    /// How many orders the settlements put together, by the ledger.
    pub settled_orders: i64,
    /// Ledger rows whose balance is not the sum of the changes up to them.
    pub wrong_balances: i64,
    /// Ledger rows whose change is not what was released less what was taken.
    pub wrong_moves: i64,
}

impl Account {
    /// Returns whether the ledger explains what is left, the orders explain the ledger, and the reserved ones what is
    /// held.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.ledger == self.available
            && self.held == self.reserved
            && self.settled == self.confirmed
            && self.settled_orders == self.confirmed_orders
            && self.available >= 0
            && self.wrong_balances == 0
            && self.wrong_moves == 0
    }

    /// Units that were promised to buyers and never were in stock.
    #[must_use]
    pub fn oversold(&self) -> i64 {
        (self.confirmed - self.stocked).max(0)
    }

    /// Units that settlements took and no confirmed order asked for: an effect that came twice.
    #[must_use]
    pub fn taken_twice(&self) -> i64 {
        (self.settled - self.confirmed).max(0)
    }
}

/// How many orders there are of each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Outcomes {
    /// Orders that got their goods.
    pub confirmed: i64,
    /// Orders rejected because their stock was gone.
    pub sold_out: i64,
    /// Orders rejected for another reason.
    pub rejected_otherwise: i64,
    /// Orders that ended as dead letters.
    pub failed: i64,
    /// Rows beyond the first of the same order.
    pub rows_too_many: i64,
}

impl Outcomes {
    /// Counts the orders of a database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(database: &mut PgConnection) -> anyhow::Result<Self> {
        Ok(sqlx::query_as(OUTCOMES).fetch_one(database).await?)
    }

    /// All orders with an outcome.
    #[must_use]
    pub fn settled(&self) -> i64 {
        self.confirmed + self.sold_out + self.rejected_otherwise + self.failed
    }
}

/// What the books say at one moment. Orders that are still queued count as lost, so read it when
/// everything accepted is settled.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The books of each SKU.
    pub accounts: Vec<Account>,
    /// What became of the orders.
    pub outcomes: Outcomes,
    /// Orders that were accepted and have no outcome.
    pub lost: Vec<Uuid>,
    /// Ids that were given to more than one accepted order.
    pub shared_ids: u64,
    /// Customers who have more than a limit allows, or another number than is counted.
    pub miscounted: i64,
}

impl Verdict {
    /// Reads the books, and looks for each of the `accepted` orders.
    ///
    /// Accepted without an idempotency key, each order has an id of its own, and an id that comes
    /// twice counts as doubled. Pass keyed orders' ids once each.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(database: &mut PgConnection, accepted: &[Uuid]) -> anyhow::Result<Self> {
        let distinct: BTreeSet<_> = accepted.iter().collect();
        let mut moment = database.begin_with(ONE_MOMENT).await?;
        let verdict = Self {
            accounts: sqlx::query_as(ACCOUNTS).fetch_all(&mut *moment).await?,
            outcomes: Outcomes::read(&mut moment).await?,
            lost: sqlx::query_scalar(LOST)
                .bind(accepted)
                .fetch_all(&mut *moment)
                .await?,
            shared_ids: (accepted.len() - distinct.len()) as u64,
            miscounted: sqlx::query_scalar(MISCOUNTED)
                .fetch_one(&mut *moment)
                .await?,
        };
        moment.commit().await?;
        Ok(verdict)
    }

    /// Accepted orders without an outcome.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.len() as u64
    }

    /// Effects beyond the one that each order may have.
    #[must_use]
    pub fn doubled(&self) -> u64 {
        let taken_twice: i64 = self.accounts.iter().map(Account::taken_twice).sum();
        (taken_twice + self.outcomes.rows_too_many).unsigned_abs() + self.shared_ids
    }

    /// Units promised that never were in stock.
    #[must_use]
    pub fn oversold(&self) -> u64 {
        self.accounts
            .iter()
            .map(|account| account.oversold().unsigned_abs())
            .sum()
    }

    /// Returns whether nothing is lost, doubled or oversold and all books balance.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost() == 0
            && self.doubled() == 0
            && self.oversold() == 0
            && self.miscounted == 0
            && self.accounts.iter().all(Account::balances)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lost, doubled, oversold] = [self.lost(), self.doubled(), self.oversold()];
        write!(
            formatter,
            "{lost} orders lost, {doubled} doubled, {oversold} units oversold; "
        )?;
        if self.miscounted > 0 {
            write!(formatter, "{} limits are not kept; ", self.miscounted)?;
        }
        let mut unbalanced = self
            .accounts
            .iter()
            .filter(|account| !account.balances())
            .peekable();
        if unbalanced.peek().is_none() {
            return write!(formatter, "stock, holds, ledger and orders agree");
        }
        write!(formatter, "stock, holds, ledger and orders disagree:")?;
        unbalanced.try_for_each(|account| write!(formatter, " {account:?}"))
    }
}
