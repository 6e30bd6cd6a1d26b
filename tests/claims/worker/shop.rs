//! A shop without a front door: goods on its shelves, and a hand on its queues, so that a test
//! decides which envelope arrives when.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use hotrow_shared::{
    broker::Broker,
    envelope::{self, Command, EncodedCommand, Order},
    id::{Day, IdMint, IdempotencyKey},
    order::{CustomerId, Items},
    publish,
    seal::SealKeys,
    topology::{self, ORDERS_EXCHANGE, Plan},
};
use hotrow_tests::{
    Place, Process, Settings,
    law::Verdict,
    processes::{self, ORDER_ID_SECRET},
    wait,
};
use lapin::{Channel, options::QueueDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use sqlx::{FromRow, PgPool, Postgres, Transaction, postgres::PgPoolOptions};
use uuid::Uuid;

/// Long for anything that works, on a machine with other things to do.
pub const A_WHILE: Duration = Duration::from_mins(1);

/// A place with a schema and queues, and no process of its own.
pub struct Shop {
    pub place: Place,
    pub database: PgPool,
    pub mint: IdMint,
    pub seals: SealKeys,
    partitions: u16,
    channel: Channel,
    broker: Broker,
}

/// An order as its row has it.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Row {
    pub status: String,
    pub reason: Option<String>,
    pub customer_id: String,
    pub items: Value,
    pub total_minor: Option<i64>,
    pub currency: Option<String>,
    pub settled_at: DateTime<Utc>,
    pub alias_of: Option<Uuid>,
}

impl Row {
    /// `confirmed`, or the reason why not.
    pub fn outcome(&self) -> &str {
        self.reason.as_deref().unwrap_or(&self.status)
    }
}

impl Shop {
    /// A shop whose orders go through so many queues.
    pub async fn open(partitions: u16) -> anyhow::Result<Self> {
        Self::open_at(Place::new().await?, partitions).await
    }

    /// A shop at a place.
    pub async fn open_at(place: Place, partitions: u16) -> anyhow::Result<Self> {
        processes::migrate(&place).await?;
        let database = PgPoolOptions::new()
            .max_connections(8)
            .connect(&place.database_url)
            .await?;
        let amqp = place.amqp_url.parse().map_err(anyhow::Error::msg)?;
        let broker = Broker::new(&amqp, "test");
        let plan = Plan {
            partitions,
            events: None,
        };
        topology::ensure(&broker, &database, &plan).await?;
        let channel = publish::confirming_channel(&broker).await?;
        let mint = IdMint::new(ORDER_ID_SECRET, None);
        Ok(Self {
            place,
            database,
            mint,
            seals: SealKeys::new(ORDER_ID_SECRET, None),
            partitions,
            channel,
            broker,
        })
    }

    /// A worker of this shop.
    pub fn worker(&self) -> Settings {
        Settings::worker(&self.place).set("PARTITIONS", self.partitions.to_string())
    }

    /// An ingest process of this shop.
    pub fn ingest(&self) -> Settings {
        Settings::ingest(&self.place)
            .set("PARTITIONS", self.partitions.to_string())
            .unlimited()
    }

    /// Puts a product at 10.00 EUR on the shelf.
    pub async fn stock(&self, sku: &str, available: i64) -> anyhow::Result<()> {
        self.stock_at(sku, available, 1_000, "EUR").await
    }

    /// Puts a product on the shelf.
    pub async fn stock_at(
        &self,
        sku: &str,
        available: i64,
        unit_price_minor: i64,
        currency: &str,
    ) -> anyhow::Result<()> {
        sqlx::query(
            "with stocked as (
                 insert into inventory (sku, title, unit_price_minor, currency, available)
                 values ($1, 'A thing', $2, $3, $4) returning sku, available
             )
             insert into inventory_ledger (sku, kind, delta, balance)
             select sku, 'put', available, available from stocked",
        )
        .bind(sku)
        .bind(unit_price_minor)
        .bind(currency)
        .bind(available)
        .execute(&self.database)
        .await?;
        Ok(())
    }

    /// What is left of a product.
    pub async fn left(&self, sku: &str) -> anyhow::Result<i64> {
        let left = sqlx::query_scalar("select available from inventory where sku = $1");
        Ok(left.bind(sku).fetch_one(&self.database).await?)
    }

    /// An order accepted now.
    pub fn order(&self, customer: &str, items: &[(&str, u32)]) -> Order {
        let now_ms = Utc::now().timestamp_millis();
        Order {
            id: self.mint.mint(now_ms.unsigned_abs()),
            customer_id: customer_id(customer),
            items: items_of(items),
            accepted_ms: now_ms,
            key: None,
            request_id: None,
        }
    }

    /// An order of that day under an idempotency key.
    pub fn keyed(&self, customer: &str, items: &[(&str, u32)], key: &str, day: Day) -> Order {
        let key = IdempotencyKey::try_from(key.to_owned()).expect("a valid key");
        let mut order = self.order(customer, items);
        order.id = self.mint.derive(&order.customer_id, &key, day.start_ms());
        order.key = Some(key);
        order
    }

    /// The number of queues.
    pub fn partition_count(&self) -> u16 {
        self.partitions
    }

    /// The partition of an order of these SKUs.
    pub fn partition(&self, skus: &[&str]) -> u16 {
        let items: Vec<_> = skus.iter().map(|sku| (*sku, 1)).collect();
        items_of(&items).partition(self.partitions)
    }

    /// SKUs of partition 0, of partition 1, and so on: one of each.
    pub fn sku_of_each_partition(&self) -> Vec<String> {
        let mut skus = BTreeMap::new();
        for number in 0.. {
            if skus.len() == usize::from(self.partitions) {
                break;
            }
            let sku = format!("thing-{number}");
            skus.entry(self.partition(&[&sku])).or_insert(sku);
        }
        skus.into_values().collect()
    }

    /// Queues orders of one partition as one envelope; when this returns, the broker has it.
    pub async fn publish(&self, orders: &[Order]) -> anyhow::Result<()> {
        let partition = orders[0].items.partition(self.partitions);
        self.send(partition, &envelope_of(orders)).await
    }

    /// Queues orders as one envelope each.
    pub async fn publish_each(&self, orders: &[Order]) -> anyhow::Result<()> {
        for order in orders {
            self.publish(std::slice::from_ref(order)).await?;
        }
        Ok(())
    }

    /// Queues the body of an envelope, sealed.
    pub async fn send(&self, partition: u16, body: &[u8]) -> anyhow::Result<()> {
        Ok(self.publisher().send(partition, body).await?)
    }

    /// Queues a message of any kind, as somebody else would.
    pub async fn publish_bytes(&self, partition: u16, body: &[u8]) -> anyhow::Result<()> {
        self.publish_with(partition, body, FieldTable::default())
            .await
    }

    /// Queues a message with any headers.
    pub async fn publish_with(
        &self,
        partition: u16,
        body: &[u8],
        headers: FieldTable,
    ) -> anyhow::Result<()> {
        let key = topology::routing_key(partition);
        let published = publish::confirmed(&self.channel, ORDERS_EXCHANGE, &key, body, headers);
        Ok(published.await?)
    }

    /// A hand on the queues for another task.
    pub fn publisher(&self) -> Publisher {
        Publisher {
            channel: self.channel.clone(),
            seals: self.seals.clone(),
            partitions: self.partitions,
        }
    }

    /// A hand on the queues of a broker that has been away.
    pub async fn publisher_again(&self) -> anyhow::Result<Publisher> {
        Ok(Publisher {
            channel: publish::confirming_channel(&self.broker).await?,
            seals: self.seals.clone(),
            partitions: self.partitions,
        })
    }

    /// A channel to the broker of the shop.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(self.broker.channel().await?)
    }

    /// How many messages of a queue no consumer holds, and how many consumers it has.
    pub async fn depth(&self, queue: &str) -> anyhow::Result<(u32, u32)> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        // A queue that is missing closes the channel.
        let channel = self.channel().await?;
        let queue = channel.queue_declare(queue.into(), passive, FieldTable::default());
        let queue = queue.await?;
        channel.close(200, "seen".into()).await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    /// Waits until every one of these orders has an outcome.
    pub async fn settled(&self, orders: &[Order], within: Duration) -> anyhow::Result<()> {
        let ids = ids_of(orders);
        let what = format!("{} orders to be settled", ids.len());
        let none_missing = "select not exists (
                select from unnest($1::uuid[]) as asked (order_id)
                where not exists (
                    select from orders
                    where orders.order_id = asked.order_id and reason is distinct from 'replayed'
                )
            )";
        wait::until(&what, within, async || {
            // While a test has the tables away, nothing is settled.
            let settled = sqlx::query_scalar(none_missing).bind(&ids);
            settled
                .fetch_one(&self.database)
                .await
                .is_ok_and(|settled| settled)
                .then_some(())
        })
        .await
    }

    /// The row of an order.
    pub async fn row(&self, order: &Order) -> anyhow::Result<Row> {
        let row = sqlx::query_as(
            "select status, reason, customer_id, items, total_minor, currency, settled_at, alias_of
             from orders where order_id = $1",
        );
        row.bind(order.id.uuid())
            .fetch_optional(&self.database)
            .await?
            .with_context(|| format!("order {} of {} has no row", order.id, order.customer_id))
    }

    /// What became of orders, in their sequence.
    pub async fn outcomes(&self, orders: &[Order]) -> anyhow::Result<Vec<String>> {
        let mut outcomes = Vec::with_capacity(orders.len());
        for order in orders {
            outcomes.push(self.row(order).await?.outcome().to_owned());
        }
        Ok(outcomes)
    }

    /// The books, which must be in order and know each of these orders.
    pub async fn books(&self, orders: &[Order]) -> anyhow::Result<Verdict> {
        let mut connection = self.database.acquire().await?;
        let verdict = Verdict::read(&mut connection, &ids_of(orders)).await?;
        ensure!(verdict.holds(), "{verdict}");
        Ok(verdict)
    }

    /// Locks the rows of products, as a settlement of somebody else would, until the value is dropped.
    pub async fn hold(&self, skus: &[&str]) -> anyhow::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.database.begin().await?;
        let locked =
            sqlx::query("select from inventory where sku = any($1) order by sku for update")
                .bind(skus)
                .execute(&mut *transaction)
                .await?;
        ensure!(locked.rows_affected() == skus.len() as u64, "not all there");
        Ok(transaction)
    }

    /// Waits until so many settlements wait for a lock.
    pub async fn waits_for_a_lock(&self, settlements: i64) -> anyhow::Result<()> {
        let what = format!("{settlements} settlements to wait for a lock");
        let waiting = "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'hotrow-worker' and wait_event_type = 'Lock'";
        wait::until(&what, A_WHILE, async || {
            let count: Result<i64, _> = sqlx::query_scalar(waiting).fetch_one(&self.database).await;
            count.is_ok_and(|count| count == settlements).then_some(())
        })
        .await
    }

    /// Runs statements that no test needs an answer to.
    pub async fn sql(&self, statements: &'static str) -> anyhow::Result<()> {
        sqlx::raw_sql(statements).execute(&self.database).await?;
        Ok(())
    }

    /// Ends sessions of that application name, as a failover of the database would.
    pub async fn end_sessions(&self, application_name: &str) -> anyhow::Result<()> {
        let end = sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name = $1",
        );
        end.bind(application_name).execute(&self.database).await?;
        Ok(())
    }
}

/// Puts envelopes into queues.
#[derive(Clone)]
pub struct Publisher {
    channel: Channel,
    seals: SealKeys,
    partitions: u16,
}

/// Orders as the body of one envelope.
pub fn envelope_of(orders: &[Order]) -> Vec<u8> {
    let place = |order: &Order| Command::Place(order.clone()).encode();
    let commands: Vec<EncodedCommand> = orders.iter().map(place).collect();
    envelope::join(&commands)
}

impl Publisher {
    /// The partition of an order.
    pub fn partition(&self, order: &Order) -> u16 {
        order.items.partition(self.partitions)
    }

    /// Queues orders of one partition as one envelope.
    pub async fn publish(&self, orders: &[Order]) -> anyhow::Result<()> {
        let partition = self.partition(&orders[0]);
        Ok(self.send(partition, &envelope_of(orders)).await?)
    }

    async fn send(&self, partition: u16, body: &[u8]) -> Result<(), publish::PublishError> {
        let key = topology::routing_key(partition);
        publish::envelope(&self.channel, &key, body, &self.seals).await
    }
}

/// The ids of orders.
pub fn ids_of(orders: &[Order]) -> Vec<Uuid> {
    orders.iter().map(|order| order.id.uuid()).collect()
}

/// Waits until a process counts that many, and no more.
pub async fn counts(
    process: &Process,
    name: &str,
    labels: &[(&str, &str)],
    count: u64,
) -> anyhow::Result<()> {
    let what = format!("{name}{labels:?} to be {count}");
    let mut last = 0;
    wait::until(&what, A_WHILE, async || {
        last = process.metrics().await.ok()?.count(name, labels);
        (last >= count).then_some(())
    })
    .await
    .with_context(|| format!("it is {last}"))?;
    ensure!(
        last == count,
        "{name}{labels:?} is {last} instead of {count}"
    );
    Ok(())
}

/// Waits until a process counts at least that many.
pub async fn counts_at_least(
    process: &Process,
    name: &str,
    labels: &[(&str, &str)],
    count: u64,
) -> anyhow::Result<()> {
    let what = format!("{name}{labels:?} to reach {count}");
    wait::until(&what, A_WHILE, async || {
        let reached = process.metrics().await.ok()?.count(name, labels);
        (reached >= count).then_some(())
    })
    .await
}

fn customer_id(name: &str) -> CustomerId {
    CustomerId::try_from(name).expect("a valid name")
}

fn items_of(items: &[(&str, u32)]) -> Items {
    let items: Vec<_> = items
        .iter()
        .map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity }))
        .collect();
    serde_json::from_value(items.into()).expect("valid items")
}
