//! Announcing: after the commit, everybody who listens is told what became of which order.
//!
//! News never hold up a settlement. They wait in a short inbox for one task that publishes them,
//! and what does not fit is dropped: a listener that misses news reads the database.

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
    deliveries::Arrived,
    document::document,
    settle::{
        decision::{Stock, Verdict},
        transaction::{Settlement, outcome},
    },
};

/// Messages of news that may wait to be published; each is at most a few hundred kilobytes.
const WAITING_MAX: usize = 64;

/// Hands news to the task that publishes them.
#[derive(Clone)]
pub struct Announcer {
    waiting: mpsc::Sender<Vec<u8>>,
}

impl Announcer {
    /// An announcer, and the task that publishes for it until the last clone is dropped.
    pub fn new(broker: Arc<Broker>) -> (Self, impl Future<Output = ()>) {
        let (waiting, inbox) = mpsc::channel(WAITING_MAX);
        (Self { waiting }, publish_all(broker, inbox))
    }

    /// Tells what became of a batch.
    pub fn announce(&self, partition: u16, orders: &[Arrived], settlement: &Settlement) {
        let Settlement {
            verdicts,
            stock,
            at,
            ..
        } = settlement;
        let pairs: Vec<_> = orders
            .iter()
            .map(|arrived| &arrived.order)
            .zip(verdicts)
            .collect();
        for (at_chunk, chunk) in pairs.chunks(NEWS_ORDERS_MAX).enumerate() {
            let mut news = News {
                queue: Some(queue_news(partition, chunk, *at)),
                // Once is enough, and before the outcomes, so that a reader of one knows the other.
                stock: if at_chunk == 0 {
                    stock_news(stock)
                } else {
                    Vec::new()
                },
                settled: Vec::with_capacity(chunk.len()),
                found: Vec::new(),
            };
            for (order, verdict) in chunk {
                match outcome(**verdict) {
                    Some(outcome) => news.settled.push(SettledNews {
                        order_id: order.id,
                        document: document(order, outcome, total(**verdict), stock, *at),
                    }),
                    None => news.found.push(order.id),
                }
            }
            self.send(&news);
        }
    }

    /// Tells that there is something to read of an order that went to the dead letters. Its document is
    /// not told, because it is not the last word: the order may be replayed.
    pub fn announce_failed(&self, order: &Order) {
        self.send(&News::<()> {
            queue: None,
            stock: Vec::new(),
            settled: Vec::new(),
            found: vec![order.id],
        });
    }

    fn send<D: Serialize>(&self, news: &News<D>) {
        // A full inbox means that the broker takes nothing now: these news would be old when it does.
        let Ok(place) = self.waiting.try_reserve() else {
            return;
        };
        match serde_json::to_vec(news) {
            Ok(body) => place.send(body),
            Err(error) => tracing::error!(%error, "news cannot be written as JSON"),
        }
    }
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

fn queue_news(partition: u16, orders: &[(&Order, &Verdict)], at: DateTime<Utc>) -> QueueNews {
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

async fn publish_all(broker: Arc<Broker>, mut inbox: mpsc::Receiver<Vec<u8>>) {
    let mut channel = None;
    while let Some(body) = inbox.recv().await {
        channel = match send(&broker, channel.take(), &body).await {
            Ok(channel) => Some(channel),
            Err(error) => {
                tracing::debug!(%error, "news are lost: listeners read the database");
                None
            }
        };
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
