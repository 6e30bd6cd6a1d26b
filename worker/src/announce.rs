//! Announcing: after the commit, everybody who listens is told what became of which order.
//!
//! News never hold up a settlement. Settled batches wait in a short inbox for one task that writes and
//! publishes the news, and what does not fit is dropped: a listener that misses news reads the
//! database.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    broker::{Broker, BrokerError},
    envelope::Order,
    news::{NEWS_ORDERS_MAX, News, QueueNews, SettledNews, StockNews},
    order::Sku,
    publish,
    topology::SETTLED_EXCHANGE,
};
use lapin::Channel;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    document::document,
    settle::{
        Settled,
        decision::{Stock, Verdict},
        transaction::{Settlement, outcome},
    },
};

/// Batches that may wait to be told. A batch of single items is a megabyte or two.
const WAITING_MAX: usize = 16;

/// Hands settled batches to the task that tells of them.
#[derive(Clone)]
pub struct Announcer {
    waiting: mpsc::Sender<Settled>,
}

impl Announcer {
    /// An announcer, and the task that publishes for it until the last clone is dropped.
    pub fn new(broker: Arc<Broker>) -> (Self, impl Future<Output = ()>) {
        let (waiting, inbox) = mpsc::channel(WAITING_MAX);
        (Self { waiting }, tell_all(broker, inbox))
    }

    /// Tells what became of a batch.
    pub fn announce(&self, settled: Settled) {
        // A full inbox means that the broker takes nothing now, or that this process is short of time: these
        // news would be old when they left.
        if self.waiting.try_send(settled).is_err() {
            tracing::debug!("news are dropped: listeners read the database");
        }
    }
}

async fn tell_all(broker: Arc<Broker>, mut inbox: mpsc::Receiver<Settled>) {
    let mut channel = None;
    while let Some(settled) = inbox.recv().await {
        for message in messages(&settled) {
            channel = match send(&broker, channel.take(), &message).await {
                Ok(channel) => Some(channel),
                Err(error) => {
                    tracing::debug!(%error, "news are lost: listeners read the database");
                    None
                }
            };
        }
    }
}

/// The news of a batch, a message at a time.
fn messages(settled: &Settled) -> impl Iterator<Item = Vec<u8>> {
    let of_settlements = settled.settlements.iter().flat_map(|(part, settlement)| {
        let orders = settled.orders[part.clone()]
            .iter()
            .map(|arrived| &arrived.order);
        let pairs: Vec<_> = orders.zip(settlement.verdicts.iter().copied()).collect();
        settlement_messages(settled.partition, pairs, settlement)
    });
    // There is something to read of an order that went to the dead letters. Its document is not
    // told, because it is not the last word: the order may be replayed.
    let of_failed = (!settled.failed.is_empty()).then(|| News::<()> {
        queue: None,
        stock: Vec::new(),
        settled: Vec::new(),
        found: settled.failed.clone(),
    });
    of_settlements.chain(of_failed.as_ref().and_then(json))
}

fn settlement_messages<'a>(
    partition: u16,
    pairs: Vec<(&'a Order, Verdict)>,
    settlement: &'a Settlement,
) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    let Settlement { stock, at, .. } = settlement;
    let chunks = 0..pairs.len().div_ceil(NEWS_ORDERS_MAX);
    chunks.filter_map(move |number| {
        let start = number * NEWS_ORDERS_MAX;
        let chunk = &pairs[start..pairs.len().min(start + NEWS_ORDERS_MAX)];
        let mut news = News {
            queue: Some(queue_news(partition, chunk, *at)),
            // Once is enough, and before the outcomes, so that a reader of one knows the other.
            stock: if number == 0 {
                stock_news(stock)
            } else {
                Vec::new()
            },
            settled: Vec::with_capacity(chunk.len()),
            found: Vec::new(),
        };
        for (order, verdict) in chunk {
            match outcome(*verdict) {
                Some(outcome) => news.settled.push(SettledNews {
                    order_id: order.id,
                    document: document(order, outcome, total(*verdict), stock, *at),
                }),
                None => news.found.push(order.id),
            }
        }
        json(&news)
    })
}

fn json<D: Serialize>(news: &News<D>) -> Option<Vec<u8>> {
    serde_json::to_vec(news)
        .inspect_err(|error| tracing::error!(%error, "news cannot be written as JSON"))
        .ok()
}

fn total(verdict: Verdict) -> Option<i64> {
    match verdict {
        Verdict::Confirmed { total_minor } => Some(total_minor),
        _ => None,
    }
}

fn stock_news(stock: &BTreeMap<Sku, Stock>) -> Vec<StockNews> {
    let news = |(sku, row): (&Sku, &Stock)| StockNews {
        sku: sku.clone(),
        version: row.version,
        available: row.available,
    };
    stock.iter().map(news).collect()
}

fn queue_news(partition: u16, orders: &[(&Order, Verdict)], at: DateTime<Utc>) -> QueueNews {
    let age_ms: i64 = orders
        .iter()
        .map(|(order, _)| (at.timestamp_millis() - order.accepted_ms).max(0))
        .sum();
    let count = i64::try_from(orders.len().max(1)).unwrap_or(i64::MAX);
    QueueNews {
        partition,
        taken_orders: u32::try_from(orders.len()).unwrap_or(u32::MAX),
        age_ms: u32::try_from(age_ms / count).unwrap_or(u32::MAX),
    }
}

async fn send(
    broker: &Broker,
    channel: Option<Channel>,
    body: &[u8],
) -> Result<Channel, BrokerError> {
    let channel = match channel {
        Some(channel) => channel,
        None => broker.channel().await?,
    };
    publish::unconfirmed(&channel, SETTLED_EXCHANGE, body).await?;
    Ok(channel)
}
