//! All SQL that changes the inventory.

use std::{io, time::Duration};

use hotrow_shared::{event::Cause, order::Sku};
use sqlx::{PgConnection, PgPool, Postgres, Transaction, error::DatabaseError};
use tokio::time::timeout;

use super::{
    bodies::{AVAILABLE_MAX, PatchBody, PutBody},
    member::Change,
    rules::{Contradiction, Sale},
    shown::Product,
};
use crate::{
    audit::{self, By},
    board::store::{Row, read},
    http::precondition::IfMatch,
    outbox::Outbox,
};

/// How long a change may take until it is committed. Its row may be locked by others.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the database may take to say that it has committed.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);

/// A change did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// It was not made: the database has not been asked to commit it, or has refused to.
    #[error("the inventory was not changed: {0}")]
    NotMade(sqlx::Error),
    /// It may or may not be made: the answer to the commit was lost.
    #[error("the inventory may or may not be changed: {0}")]
    Unknown(sqlx::Error),
}

impl From<sqlx::Error> for ChangeError {
    fn from(error: sqlx::Error) -> Self {
        Self::NotMade(error)
    }
}

/// What changes are made with, and by whom.
pub(crate) struct Changes<'a> {
    pub(crate) pool: &'a PgPool,
    pub(crate) outbox: Outbox,
    pub(crate) by: &'a By,
    /// What of a product the caller has seen.
    pub(crate) if_match: IfMatch,
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Changed {
    /// It was made.
    Done(Row),
    /// The product is new.
    Created(Row),
    /// There is no such product.
    UnknownSku,
    /// The product is not as the caller has seen it.
    Outdated,
    /// The rules of the sale would contradict each other.
    Contradiction(Contradiction),
}

/// What a product is after a change.
struct Written<'a> {
    title: &'a str,
    unit_price_minor: i64,
    currency: &'a str,
    available: i64,
    sale: Sale,
}

impl Changes<'_> {
    /// Creates or replaces a product, and enters the difference of the stock in the ledger.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub(crate) async fn put(&self, sku: &Sku, product: &PutBody) -> Result<Changed, ChangeError> {
        self.commit_if_made(self.begin_put(sku, product)).await
    }

    async fn begin_put(&self, sku: &Sku, product: &PutBody) -> Begun {
        let mut transaction = self.pool.begin().await?;
        // An empty row first: then there is always one to lock, and two who create it wait for each other.
        let created = sqlx::query!(
            r#"
            insert into inventory (sku, title, unit_price_minor, currency, available, version, edition)
            values ($1, '', 0, '', 0, 0, 0)
            on conflict on constraint inventory_pkey do nothing
            "#,
            sku.as_str(),
        )
        .execute(&mut *transaction)
        .await?;
        let is_new = created.rows_affected() == 1;
        let Some(before) = lock(&mut transaction, sku).await? else {
            return Ok((transaction, Changed::UnknownSku));
        };
        let edition = (!is_new).then_some(before.edition);
        if !self.if_match.allows(edition) {
            return Ok((transaction, Changed::Outdated));
        }
        let written = Written {
            title: &product.title,
            unit_price_minor: product.unit_price_minor,
            currency: &product.currency,
            available: product.available,
            sale: match product.sale {
                Change::Keep => Sale::of(&before),
                Change::Remove => Sale::default(),
                Change::Set(sale) => sale,
            },
        };
        let row = write(&mut transaction, sku, &written).await?;
        enter(&mut transaction, &before, &row, self.by).await?;
        self.note(
            &mut transaction,
            "inventory.put",
            Cause::Put,
            (!is_new).then_some(&before),
            &row,
        )
        .await?;
        let changed = if is_new {
            Changed::Created(row)
        } else {
            Changed::Done(row)
        };
        Ok((transaction, changed))
    }

    /// Changes what of a product is named, and leaves its stock alone.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub(crate) async fn patch(
        &self,
        sku: &Sku,
        change: &PatchBody,
    ) -> Result<Changed, ChangeError> {
        self.commit_if_made(self.begin_patch(sku, change)).await
    }

    async fn begin_patch(&self, sku: &Sku, change: &PatchBody) -> Begun {
        let mut transaction = self.pool.begin().await?;
        let Some(before) = lock(&mut transaction, sku).await? else {
            return Ok((transaction, Changed::UnknownSku));
        };
        if !self.if_match.allows(Some(before.edition)) {
            return Ok((transaction, Changed::Outdated));
        }
        let sale = match change.sale {
            Change::Keep => Sale::of(&before),
            Change::Remove => Sale::default(),
            Change::Set(change) => change.applied_to(Sale::of(&before)),
        };
        if let Some(contradiction) = sale.contradiction() {
            return Ok((transaction, Changed::Contradiction(contradiction)));
        }
        let written = Written {
            title: change.title.as_deref().unwrap_or(&before.title),
            unit_price_minor: change.unit_price_minor.unwrap_or(before.unit_price_minor),
            currency: &before.currency,
            available: before.available,
            sale,
        };
        let row = write(&mut transaction, sku, &written).await?;
        self.note(
            &mut transaction,
            "inventory.patch",
            Cause::Patch,
            Some(&before),
            &row,
        )
        .await?;
        Ok((transaction, Changed::Done(row)))
    }

    async fn commit_if_made(
        &self,
        change: impl Future<Output = Begun>,
    ) -> Result<Changed, ChangeError> {
        let (transaction, changed) = in_time(CHANGE_TIME_MAX, change).await?;
        // Nothing to commit where nothing was changed, and then nothing is unknown.
        if matches!(changed, Changed::Done(_) | Changed::Created(_)) {
            commit(transaction).await?;
        }
        Ok(changed)
    }

    /// Notes a change where it is to be told and recorded, in its transaction.
    async fn note(
        &self,
        connection: &mut PgConnection,
        action: &'static str,
        cause: Cause,
        before: Option<&Row>,
        after: &Row,
    ) -> Result<(), sqlx::Error> {
        self.outbox.tell(connection, after, cause).await?;
        let entry = audit::Entry {
            action,
            subject: &after.sku,
            before: before.and_then(|row| audit::json(&Product::of(row))),
            after: audit::json(&Product::of(after)),
        };
        audit::record(connection, self.by, entry).await
    }
}

/// A change that is made and not committed yet, or was not to be made.
type Begun = Result<(Transaction<'static, Postgres>, Changed), sqlx::Error>;

/// Locks a product's row and reads it.
async fn lock(connection: &mut PgConnection, sku: &Sku) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query!(
        "select from inventory where sku = $1 for no key update",
        sku.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?;
    read(connection, sku).await
}

/// Writes what a locked row is from now on.
async fn write(
    connection: &mut PgConnection,
    sku: &Sku,
    written: &Written<'_>,
) -> Result<Row, sqlx::Error> {
    let sale = written.sale;
    sqlx::query_as!(
        Row,
        r#"
        update inventory
        set title = $2, unit_price_minor = $3, currency = $4, available = $5, hold_seconds = $6, hold_seconds_max = $7,
            max_per_order = $8, max_per_customer = $9,
            -- What customers have is counted from the moment on when there is a limit.
            limited_since = case
                                when $9::integer is null then null
                                when max_per_customer is null then clock_timestamp()
                                else limited_since
                            end,
            opens_at = $10, closes_at = $11, paused = $12,
            edition = edition + 1, version = version + 1, updated_at = now()
        where sku = $1
        returning sku, title, unit_price_minor, currency, available, held, hold_seconds, hold_seconds_max,
                  max_per_order, max_per_customer, opens_at, closes_at, paused, edition, version,
                  clock_timestamp() as "as_of!"
        "#,
        sku.as_str(),
        written.title,
        written.unit_price_minor,
        written.currency,
        written.available,
        sale.hold_seconds,
        sale.hold_seconds_max,
        sale.max_per_order,
        sale.max_per_customer,
        sale.opens_at,
        sale.closes_at,
        sale.is_paused,
    )
    .fetch_one(connection)
    .await
}

/// Enters the difference of the stock in the ledger.
async fn enter(
    connection: &mut PgConnection,
    before: &Row,
    after: &Row,
    by: &By,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into inventory_ledger (sku, kind, delta, balance, actor) values ($1, 'put', $2, $3, $4)",
        after.sku,
        after.available - before.available,
        after.available,
        by.actor.name,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What became of a restock.
#[derive(Debug)]
pub(crate) enum Restocked {
    /// It was applied, now or when the same key came first.
    Done(Row),
    /// There is no such product.
    UnknownSku,
    /// The stock would fall below zero, or above what a number can hold. This is the stock.
    OutOfBounds(i64),
    /// The key was used for another quantity.
    Mismatch,
}

impl Changes<'_> {
    /// Adds to the stock, or takes from it, and enters it in the ledger; with a key, once for as long as orders are
    /// kept.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub(crate) async fn restock(
        &self,
        sku: &Sku,
        quantity: i64,
        key: Option<&str>,
    ) -> Result<Restocked, ChangeError> {
        let restock = self.begin_restock(sku, quantity, key);
        let (transaction, restocked) = in_time(CHANGE_TIME_MAX, restock).await?;
        if matches!(restocked, Restocked::Done(_)) {
            commit(transaction).await?;
        }
        Ok(restocked)
    }

    async fn begin_restock(
        &self,
        sku: &Sku,
        quantity: i64,
        key: Option<&str>,
    ) -> Result<(Transaction<'static, Postgres>, Restocked), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let Some(before) = lock(&mut transaction, sku).await? else {
            return Ok((transaction, Restocked::UnknownSku));
        };
        // Behind the lock: whoever brought the same key first has committed. The release before writes
        // keys into the ledger alone.
        let first = sqlx::query_scalar!(
            r#"
            select delta as "delta!" from restock_keys where sku = $1 and idempotency_key = $2
            union all
            select delta from inventory_ledger where sku = $1 and idempotency_key = $2 and idempotency_key is not null
            limit 1
            "#,
            sku.as_str(),
            key,
        );
        match first.fetch_optional(&mut *transaction).await? {
            Some(delta) if delta != quantity => return Ok((transaction, Restocked::Mismatch)),
            Some(_) => return Ok((transaction, Restocked::Done(before))),
            None if !(0..=AVAILABLE_MAX).contains(&(before.available + quantity)) => {
                return Ok((transaction, Restocked::OutOfBounds(before.available)));
            }
            None => {}
        }
        sqlx::query!(
            r#"
            with restocked as (
                update inventory
                set available = available + $2, edition = edition + 1, version = version + 1, updated_at = now()
                where sku = $1
                returning sku, available
            ),
            named as (
                insert into restock_keys (sku, idempotency_key, delta)
                select sku, $3, $2 from restocked where $3::text is not null
            )
            insert into inventory_ledger (sku, kind, delta, balance, idempotency_key, actor)
            select sku, 'restock', $2, available, $3, $4 from restocked
            "#,
            sku.as_str(),
            quantity,
            key,
            self.by.actor.name,
        )
        .execute(&mut *transaction)
        .await?;
        let Some(row) = read(&mut *transaction, sku).await? else {
            return Ok((transaction, Restocked::UnknownSku));
        };
        let action = "inventory.restock";
        self.note(
            &mut transaction,
            action,
            Cause::Restock,
            Some(&before),
            &row,
        )
        .await?;
        Ok((transaction, Restocked::Done(row)))
    }
}

/// Bounds the time of work that is undone if it is given up.
async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let done = timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Commits. An answer that does not come, or that says that the server is going away, says nothing about
/// the change.
async fn commit(transaction: Transaction<'static, Postgres>) -> Result<(), ChangeError> {
    let committed = in_time(COMMIT_TIME_MAX, transaction.commit()).await;
    committed.map_err(|error| {
        let code = error.as_database_error().and_then(DatabaseError::code);
        let is_refusal = code.is_some_and(|code| !matches!(code.get(..2), Some("08" | "57")));
        if is_refusal {
            ChangeError::NotMade(error)
        } else {
            ChangeError::Unknown(error)
        }
    })
}
