//! Announcing: after the commit, everybody who listens is told what became of which order.
//!
//! News never holds up a settlement. Settled batches wait in a short inbox for one task that writes and
//! publishes the news, and what does not fit is dropped: a listener that misses news reads the
//! database.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    broker::{Broker, BrokerError},
    envelope::Command,
    news::{NEWS_ORDERS_MAX, News, QueueNews, SettledNews, StockNews},
    order::Sku,
    outcome::OrderDocument,
    publish,
    topology::SETTLED_EXCHANGE,
};
use lapin::Channel;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::{
    document::{PricedItems, document},
    ended::{Ended, Inbox, Waiting},
    settle::{Decided, Settlement, decision::Verdict},
    stock::Stock,
};

/// Batches that may wait to be announced.
const WAITING_MAX: usize = 16;
/// Most bytes of envelopes whose batches wait to be announced; a batch that is larger waits alone.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// About how long a message of news gets: documents of 1,000 orders of one item, or of 100 large carts.
const MESSAGE_BYTES: usize = 256 * 1024;
/// About how much a document adds to the names in it.
const DOCUMENT_BYTES: usize = 300;
const ITEM_BYTES: usize = 60;

/// Hands settled batches to the task that tells of them.
#[derive(Clone)]
pub(crate) struct Announcer(Inbox);

impl Announcer {
    /// An announcer, and the task that publishes for it until the last clone is dropped.
    pub(crate) fn new(broker: Arc<Broker>) -> (Self, impl Future<Output = ()>) {
        let (inbox, batches) = Inbox::bounded(WAITING_MAX, WAITING_BYTES_MAX);
        (Self(inbox), publish_all(broker, batches))
    }

    /// Tells what became of a batch.
    pub(crate) fn announce(&self, ended: Arc<Ended>) {
        // A full inbox means that the broker takes nothing now, or that this process is short of time: this
        // news would be old when it left.
        if !self.0.offer(ended) {
            tracing::debug!("news is dropped: listeners read the database");
        }
    }
}

async fn publish_all(broker: Arc<Broker>, mut inbox: mpsc::Receiver<Waiting>) {
    let mut channel = None;
    while let Some((ended, _room)) = inbox.recv().await {
        for message in messages(&ended) {
            match send(&broker, channel.take(), &message).await {
                Ok(sent_on) => channel = Some(sent_on),
                Err(error) => {
                    tracing::debug!(%error, "news is lost: listeners read the database");
                    // Each of the others would wait for the same broker, and the next batch behind them.
                    break;
                }
            }
        }
    }
}

/// The news of a batch, written one message at a time.
fn messages(ended: &Ended) -> impl Iterator<Item = Vec<u8>> {
    let of_settlements = ended
        .settlements
        .iter()
        .flat_map(|settlement| settlement_messages(ended.partition, settlement));
    // There is something to read of an order that went to the dead letters. Its document is not
    // told, because it is not the last word: the order may be replayed.
    let of_failed = (!ended.failed.is_empty()).then(|| News::<()> {
        found: ended.failed.clone(),
        ..News::default()
    });
    of_settlements.chain(of_failed.as_ref().and_then(json))
}

fn settlement_messages(
    partition: u16,
    settlement: &Settlement,
) -> impl Iterator<Item = Vec<u8>> + use<'_> {
    let Settlement {
        decided, stock, at, ..
    } = settlement;
    let mut left = &decided[..];
    let chunks = std::iter::from_fn(move || {
        let (chunk, rest) = left.split_at(message_commands(left));
        left = rest;
        (!chunk.is_empty()).then_some(chunk)
    });
    chunks.enumerate().filter_map(move |(number, chunk)| {
        let mut news = News {
            queue: Some(queue_news(partition, chunk, *at)),
            // Once is enough, and before the outcomes, so that a reader of one knows the other.
            stock: if number == 0 {
                stock_news(stock)
            } else {
                Vec::new()
            },
            settled: Vec::with_capacity(chunk.len()),
            ..News::default()
        };
        for Decided { command, verdict } in chunk {
            match (command, verdict) {
                (Command::Place(order), Verdict::Settled(outcome)) => {
                    news.settled.push(SettledNews {
                        order_id: order.id,
                        revision: outcome.revision,
                        is_final: outcome.status.is_final(),
                        document: Document::New(document(order, *outcome, stock, *at)),
                    });
                }
                (Command::Change(_), Verdict::Changed(standing, _)) => {
                    news.settled.push(SettledNews {
                        order_id: standing.id,
                        revision: standing.revision,
                        is_final: standing.status.is_final(),
                        document: Document::Changed(standing.document()),
                    });
                }
                _ => news.found.push(command.order_id()),
            }
            if let Command::Change(change) = command
                && let Some(ticket) = change.ticket
            {
                news.answers.push((ticket, verdict.answer()));
            }
        }
        json(&news)
    })
}

/// A document, as a settlement or a change made it.
#[derive(Serialize)]
#[serde(untagged)]
enum Document<'a> {
    New(OrderDocument<'a, PricedItems<'a>>),
    Changed(OrderDocument<'a, &'a RawValue>),
}

/// How many of these fit into one message.
fn message_commands(decided: &[Decided]) -> usize {
    let mut bytes = 0;
    let fits = decided.iter().take(NEWS_ORDERS_MAX).take_while(|decided| {
        let is_first = bytes == 0;
        bytes += DOCUMENT_BYTES + names_bytes(decided);
        is_first || bytes <= MESSAGE_BYTES
    });
    fits.count()
}

/// About how much the names in a document take up.
fn names_bytes(decided: &Decided) -> usize {
    match (&decided.command, &decided.verdict) {
        (Command::Place(order), _) => {
            let items = order.items.as_slice().iter();
            let items: usize = items.map(|item| item.sku.as_str().len() + ITEM_BYTES).sum();
            items + order.customer_id.as_str().len()
        }
        (_, Verdict::Changed(standing, _)) => {
            standing.items.get().len()
                + standing.customer_id.len()
                + standing.payment_reference.as_ref().map_or(0, String::len)
        }
        _ => 0,
    }
}

fn json<D: Serialize>(news: &News<D>) -> Option<Vec<u8>> {
    serde_json::to_vec(news)
        .inspect_err(|error| tracing::error!(%error, "news cannot be written as JSON"))
        .ok()
}

fn stock_news(stock: &BTreeMap<Sku, Stock>) -> Vec<StockNews> {
    let news = |(sku, row): (&Sku, &Stock)| StockNews {
        sku: sku.clone(),
        version: row.version,
        available: row.available,
        held: row.held,
    };
    stock.iter().map(news).collect()
}

fn queue_news(partition: u16, decided: &[Decided], at: DateTime<Utc>) -> QueueNews {
    let age_ms = |it: &Decided| (at.timestamp_millis() - it.command.accepted_ms()).max(0);
    let count = i64::try_from(decided.len().max(1)).unwrap_or(i64::MAX);
    let mean_ms = decided.iter().map(age_ms).fold(0, i64::saturating_add) / count;
    QueueNews {
        partition,
        taken_orders: u32::try_from(decided.len()).unwrap_or(u32::MAX),
        age_ms: u32::try_from(mean_ms).unwrap_or(u32::MAX),
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

#[cfg(test)]
mod tests;
