//! `hotrow-worker dead-letters list|replay|discard`: what a person does with dead letters.

use std::io::Write;

use anyhow::{Context, ensure};
use hotrow_shared::{
    broker::Broker,
    database,
    envelope::{self, Command, Opened},
    id::OrderId,
    publish,
    request_id::RequestId,
    topology::{self, DEAD_QUEUE, ORDERS_EXCHANGE},
};
use lapin::{
    Channel,
    message::{BasicGetMessage, Delivery},
    options::{BasicAckOptions, BasicGetOptions},
    types::{AMQPValue, FieldTable},
};
use nix::unistd::{Uid, User};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use sqlx::PgPool;
use uuid::Uuid;

use super::{DETAIL_HEADER, DeadReason, PARTITION_HEADER, REASON_HEADER, failed};
use crate::{
    deliveries,
    settings::{DeadLetterAction, Selection, Settings},
    store::{StoreError, audit_log, orders},
};

/// The reason of a letter that does not say one.
const UNKNOWN: &str = "unknown";
/// Reasons that the broker gives (RabbitMQ, "Dead Letter Exchanges").
const REASONS_OF_THE_BROKER: [&str; 4] = ["delivery_limit", "rejected", "expired", "maxlen"];

/// A dead letter as a person sees it.
#[derive(Serialize)]
struct Listed<'a> {
    reason: &'a str,
    detail: &'a str,
    partition: Option<u16>,
    order_ids: &'a [OrderId],
    request_ids: &'a [RequestId],
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

struct Letter {
    delivery: Delivery,
    reason: String,
    detail: String,
    partition: Option<u16>,
    order_ids: Vec<OrderId>,
    request_ids: Vec<RequestId>,
    opened: Opened,
}

/// A selection that can mean something.
struct Meant {
    order: Option<OrderId>,
    reason: Option<String>,
    /// Whether the person said which letters are meant.
    is_clear: bool,
}

impl Meant {
    fn by(selection: &Selection) -> anyhow::Result<Self> {
        let order = selection.order_id.as_deref().map(|text| {
            let uuid = Uuid::try_parse(text)
                .with_context(|| format!("--order-id: `{text}` is not the id of an order"))?;
            anyhow::Ok(OrderId::trusted(uuid))
        });
        if let Some(reason) = &selection.reason {
            let known = DeadReason::ALL.map(DeadReason::as_str);
            let mut known = known
                .into_iter()
                .chain(REASONS_OF_THE_BROKER)
                .chain([UNKNOWN]);
            ensure!(
                known.clone().any(|known| known == reason),
                "--reason: there is no `{reason}`, only {}",
                known.by_ref().collect::<Vec<_>>().join(", ")
            );
        }
        Ok(Self {
            order: order.transpose()?,
            reason: selection.reason.clone(),
            is_clear: selection.all || selection.order_id.is_some() || selection.reason.is_some(),
        })
    }
}

/// Carries out one action on the dead letters that are there now.
///
/// # Errors
/// A server is out of reach, the selection is empty, or a letter cannot be replayed.
pub async fn run(action: &DeadLetterAction, settings: &Settings) -> anyhow::Result<()> {
    let (DeadLetterAction::List(selection)
    | DeadLetterAction::Replay(selection)
    | DeadLetterAction::Discard(selection)) = action;
    let meant = &Meant::by(selection)?;
    let is_list = matches!(action, DeadLetterAction::List(_));
    ensure!(
        is_list || meant.is_clear,
        "say which dead letters are meant: --order-id, --reason or --all"
    );
    let common = &settings.common;
    let pool = database::pool(
        &common.database,
        common.database_connections,
        "hotrow-worker dead-letters",
        database::ACQUIRE_MAX,
    );
    let broker = deliveries::broker(&common.amqp, "hotrow-worker dead-letters");
    database::require_schema(&common.database).await?;
    topology::ensure(&broker, &pool, &common.plan).await?;
    let desk = Desk {
        pool,
        broker,
        partitions: common.plan.partitions,
        source: settings.source_if_told(),
    };
    match action {
        DeadLetterAction::List(_) => desk.list(meant).await,
        DeadLetterAction::Replay(_) => {
            let replay = async |letter: &Letter| desk.replay(letter).await;
            desk.each(meant, "replayed", "dead_letter.replay", replay)
                .await
        }
        DeadLetterAction::Discard(_) => {
            let discard = async |letter: &Letter| desk.discard(letter).await;
            desk.each(meant, "discarded", "dead_letter.discard", discard)
                .await
        }
    }
}

struct Desk {
    pool: PgPool,
    broker: Broker,
    partitions: u16,
    /// The name of the installation in its events, if there are any.
    source: Option<String>,
}

impl Desk {
    /// Prints letters. None is acknowledged: they go back with the end of the channel.
    async fn list(&self, meant: &Meant) -> anyhow::Result<()> {
        let mut count = 0;
        let mut out = std::io::stdout().lock();
        let mut pile = Pile::on(self.broker.channel().await?);
        while let Some(letter) = pile.next().await? {
            if letter.is_meant(meant) {
                serde_json::to_writer(&mut out, &letter.listed())?;
                writeln!(out)?;
                count += 1;
            }
        }
        say_if_none(count);
        self.broker.close().await;
        Ok(())
    }

    /// Takes the selected letters off the queue, each after `deal` is done with it.
    async fn each(
        &self,
        meant: &Meant,
        done: &str,
        action: &str,
        deal: impl AsyncFn(&Letter) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut pile = Pile::on(self.broker.channel().await?);
        let mut count = 0;
        while let Some(letter) = pile.next().await? {
            if letter.is_meant(meant) {
                deal(&letter).await?;
                self.record(action, &letter).await?;
                letter
                    .delivery
                    .acker
                    .ack(BasicAckOptions::default())
                    .await?;
                count += 1;
            }
        }
        // An acknowledgement is on its way when the channel says good-bye in order.
        pile.channel.close(200, "done".into()).await?;
        self.broker.close().await;
        println!("{done}: {count}");
        say_if_none(count);
        // A script that names an order must not take silence for success.
        ensure!(
            count > 0 || meant.order.is_none(),
            "there is no dead letter of this order"
        );
        Ok(())
    }

    /// Records what is done with a letter, before it leaves the queue.
    async fn record(&self, action: &str, letter: &Letter) -> anyhow::Result<()> {
        let first = letter.order_ids.first().map(ToString::to_string);
        let subject = first.unwrap_or_else(|| DEAD_QUEUE.to_owned());
        let before = json!({
            "reason": letter.reason,
            "detail": letter.detail,
            "order_ids": letter.order_ids,
        });
        audit_log::record(&self.pool, &operator(), action, &subject, &before).await?;
        Ok(())
    }

    /// Publishes a letter again, as if its orders came in now. They read `queued` from here on.
    ///
    /// Each order goes to the queue that its items have today. What is not an order goes to where it
    /// came from: a newer worker may be able to read it.
    async fn replay(&self, letter: &Letter) -> anyhow::Result<()> {
        let Opened {
            commands,
            unreadable,
        } = &letter.opened;
        let channel = publish::confirming_channel(&self.broker).await?;
        for command in commands {
            if let Command::Place(order) = command {
                orders::mark_replayed(&self.pool, order.id.uuid()).await?;
            }
            let partition = command.partition(self.partitions);
            send(&channel, partition, &command.seal_alone()).await?;
        }
        let partition = letter
            .partition
            .filter(|partition| *partition < self.partitions);
        for piece in unreadable {
            let partition = partition
                .context("a dead letter does not say which partition it came from: discard it")?;
            send(&channel, partition, &piece.body).await?;
        }
        channel.close(200, "replayed".into()).await?;
        Ok(())
    }

    /// Makes sure that the orders of a letter read `failed`. Those that the broker dead-lettered do not yet.
    async fn discard(&self, letter: &Letter) -> anyhow::Result<()> {
        for command in &letter.opened.commands {
            let Command::Place(order) = command else {
                continue;
            };
            let marked = failed::mark(&self.pool, order, self.source.as_deref());
            match marked.await {
                Err(StoreError::Refused(error) | StoreError::MissingDay(error)) => {
                    tracing::warn!(order_id = %order.id, %error, "cannot be marked as failed");
                }
                marked => marked?,
            }
        }
        Ok(())
    }
}

/// The account of the person at this machine.
fn operator() -> String {
    let user = User::from_uid(Uid::current()).ok().flatten();
    user.map_or_else(|| Uid::current().to_string(), |user| user.name)
}

fn say_if_none(count: usize) {
    if count == 0 {
        eprintln!("no dead letter matches");
    }
}

async fn send(channel: &Channel, partition: u16, body: &[u8]) -> Result<(), publish::PublishError> {
    let key = topology::routing_key(partition);
    publish::confirmed(channel, ORDERS_EXCHANGE, &key, body, FieldTable::default()).await
}

/// The dead letters that were there at the first look. A worker may put what is replayed straight back
/// behind them: that is for the next time, or a replay would go on for ever.
struct Pile {
    channel: Channel,
    left: Option<u32>,
}

impl Pile {
    fn on(channel: Channel) -> Self {
        Self {
            channel,
            left: None,
        }
    }

    async fn next(&mut self) -> Result<Option<Letter>, lapin::Error> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let message = self
            .channel
            .basic_get(DEAD_QUEUE.into(), BasicGetOptions::default())
            .await?;
        Ok(message.map(|message| {
            self.left = Some(self.left.map_or(message.message_count, |left| left - 1));
            Letter::read(message)
        }))
    }
}

impl Letter {
    fn read(message: BasicGetMessage) -> Self {
        let delivery = message.delivery;
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let opened = envelope::open(&delivery.data);
        // What the worker buried says why; what the broker did has its standard headers.
        let reason =
            text(&headers, REASON_HEADER).or_else(|| text(&headers, "x-first-death-reason"));
        let detail = text(&headers, DETAIL_HEADER)
            .unwrap_or_else(|| "dead-lettered by the broker".to_owned());
        let partition = match headers.inner().get(PARTITION_HEADER) {
            Some(AMQPValue::LongInt(partition)) => u16::try_from(*partition).ok(),
            _ => text(&headers, "x-first-death-queue")
                .and_then(|queue| queue.rsplit('.').next()?.parse().ok()),
        };
        let order_ids = opened.commands.iter().map(Command::order_id).collect();
        let request_ids = opened.commands.iter().filter_map(Command::request_id);
        Self {
            delivery,
            reason: reason.unwrap_or_else(|| UNKNOWN.to_owned()),
            detail,
            partition,
            order_ids,
            request_ids: request_ids.cloned().collect(),
            opened,
        }
    }

    fn is_meant(&self, meant: &Meant) -> bool {
        let id_fits = meant.order.is_none_or(|id| self.order_ids.contains(&id));
        let reason = meant.reason.as_ref();
        id_fits && reason.is_none_or(|reason| *reason == self.reason)
    }

    fn listed(&self) -> Listed<'_> {
        let body = serde_json::from_slice(&self.delivery.data).ok();
        Listed {
            reason: &self.reason,
            detail: &self.detail,
            partition: self.partition,
            order_ids: &self.order_ids,
            request_ids: &self.request_ids,
            text: body
                .is_none()
                .then(|| String::from_utf8_lossy(&self.delivery.data).into_owned()),
            body,
        }
    }
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
