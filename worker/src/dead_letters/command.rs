//! `hotrow-worker dead-letters list|replay|discard`: what a person does with dead letters.

use std::io::Write;

use anyhow::{Context, bail, ensure};
use hotrow_shared::{
    broker::Broker,
    database,
    envelope::{self, Command, Opened},
    publish,
    topology::{self, DEAD_QUEUE, ORDERS_EXCHANGE},
};
use lapin::{
    Channel,
    message::{BasicGetMessage, Delivery},
    options::{BasicAckOptions, BasicGetOptions},
    types::{AMQPValue, FieldTable},
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgPool;

use super::{DETAIL_HEADER, PARTITION_HEADER, REASON_HEADER};
use crate::{
    document::{PricedItems, accepted_at},
    settings::{DeadLetterAction, Selection, Settings},
    settle::store,
};

/// A dead letter as a person sees it.
#[derive(Serialize)]
struct Listed<'a> {
    reason: &'a str,
    detail: &'a str,
    partition: Option<u16>,
    order_ids: &'a [String],
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
    order_ids: Vec<String>,
    opened: Opened,
}

/// Carries out one action on the dead letters that are there now.
///
/// # Errors
/// A server is out of reach, the selection is empty, or a letter cannot be replayed.
pub async fn run(action: &DeadLetterAction, settings: &Settings) -> anyhow::Result<()> {
    let common = &settings.common;
    let pool = database::pool(
        &common.database,
        common.database_connections,
        "hotrow-worker dead-letters",
        database::ACQUIRE_MAX,
    );
    let broker = Broker::new(&common.amqp, "hotrow-worker dead-letters");
    database::require_schema(&common.database).await?;
    topology::ensure(&broker, &pool, common.partitions).await?;
    let desk = Desk {
        pool,
        broker,
        partitions: common.partitions,
    };
    match action {
        DeadLetterAction::List(selection) => desk.list(selection).await,
        DeadLetterAction::Replay(selection) => {
            desk.each(selection, "replayed", async |letter| {
                desk.replay(letter).await
            })
            .await
        }
        DeadLetterAction::Discard(selection) => {
            desk.each(selection, "discarded", async |letter| {
                desk.discard(letter).await
            })
            .await
        }
    }
}

struct Desk {
    pool: PgPool,
    broker: Broker,
    partitions: u16,
}

impl Desk {
    /// Prints letters. None is acknowledged: they go back with the end of the channel.
    async fn list(&self, selection: &Selection) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let mut pile = Pile::on(self.broker.channel().await?);
        while let Some(letter) = pile.next().await? {
            if letter.is_meant(selection) {
                serde_json::to_writer(&mut out, &letter.listed())?;
                writeln!(out)?;
            }
        }
        self.broker.close().await;
        Ok(())
    }

    /// Takes the selected letters off the queue, each after `deal` is done with it.
    async fn each(
        &self,
        selection: &Selection,
        done: &str,
        deal: impl AsyncFn(&Letter) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        ensure!(
            selection.all || selection.order_id.is_some() || selection.reason.is_some(),
            "say which dead letters are meant: --order-id, --reason or --all"
        );
        let mut pile = Pile::on(self.broker.channel().await?);
        let mut count = 0;
        while let Some(letter) = pile.next().await? {
            if letter.is_meant(selection) {
                deal(&letter).await?;
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
        if count == 0 && selection.order_id.is_some() {
            bail!("there is no dead letter of this order");
        }
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
        for Command::Place(order) in commands {
            store::mark_replayed(&self.pool, order.id.uuid()).await?;
            let partition = order.items.partition(self.partitions);
            send(&channel, partition, &order.seal_alone()).await?;
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
        for Command::Place(order) in &letter.opened.commands {
            let items = PricedItems {
                items: &order.items,
                stock: &std::collections::BTreeMap::new(),
            }
            .json();
            let marked = store::write_failed(
                &self.pool,
                order.id.uuid(),
                order.customer_id.as_str(),
                &items,
                accepted_at(order),
            );
            match marked.await {
                Err(store::StoreError::Refused(error)) => {
                    tracing::warn!(order_id = %order.id, %error, "cannot be marked as failed");
                }
                marked => marked?,
            }
        }
        Ok(())
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
        let order_ids = opened
            .commands
            .iter()
            .map(|Command::Place(order)| order.id.to_string())
            .collect();
        Self {
            delivery,
            reason: reason.unwrap_or_else(|| "unknown".to_owned()),
            detail,
            partition,
            order_ids,
            opened,
        }
    }

    fn is_meant(&self, selection: &Selection) -> bool {
        let id_fits = selection
            .order_id
            .as_ref()
            .is_none_or(|id| self.order_ids.contains(id));
        let reason_fits = selection
            .reason
            .as_ref()
            .is_none_or(|reason| *reason == self.reason);
        id_fits && reason_fits
    }

    fn listed(&self) -> Listed<'_> {
        let body = serde_json::from_slice(&self.delivery.data).ok();
        Listed {
            reason: &self.reason,
            detail: &self.detail,
            partition: self.partition,
            order_ids: &self.order_ids,
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
