//! The news: what workers and other ingest processes report, taken in until the shutdown.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use hotrow_shared::{
    broker::{Broker, BrokerError},
    news::{self, SettledNews},
    retry::Pauses,
    topology,
};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    backlog::Backlog,
    board::Board,
    changes::tickets::Tickets,
    live::orders::LiveOrders,
    sale::KnownSwitch,
    status::{Lately, outcomes::Outcome},
};

/// Messages of news that wait in this process; the others wait in the broker, which drops the oldest.
const PREFETCH: u16 = 32;

/// After how long a silence the queue of news is bound anew: somebody may have deleted the exchange, and
/// while it is busy it is bound.
const BIND_INTERVAL: Duration = Duration::from_secs(2);

/// The rooms that the news is for.
pub(crate) struct Listeners {
    /// Remembers outcomes and wakes who waits for one.
    pub(crate) lately: Arc<Lately>,
    /// Tells the pages that listen to orders.
    pub(crate) live: Arc<LiveOrders>,
    /// Knows who waits for a change of an order.
    pub(crate) tickets: Arc<Tickets>,
    /// Knows the stock and the rules of every SKU.
    pub(crate) board: Arc<Board>,
    /// Stops all purchases.
    pub(crate) switch: Arc<KnownSwitch>,
    /// Knows what the workers took off their queues.
    pub(crate) backlog: Arc<Backlog>,
}

impl Listeners {
    /// Listens until `shutdown`, again and again if the broker goes away.
    pub(crate) async fn run(self, broker: Arc<Broker>, shutdown: CancellationToken) {
        let mut pauses = Pauses::new();
        loop {
            match shutdown.run_until_cancelled(self.listen(&broker)).await {
                None => return,
                Some(Ok(())) => pauses = Pauses::new(),
                Some(Err(error)) => tracing::debug!(%error, "no news can be heard"),
            }
            shutdown.run_until_cancelled(pauses.pause()).await;
        }
    }

    /// Listens until the channel ends.
    async fn listen(&self, broker: &Broker) -> Result<(), BrokerError> {
        let channel = broker.channel().await?;
        let queue = topology::declare_news_queue(&channel).await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let options = BasicConsumeOptions {
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let mut consumer = channel
            .basic_consume(queue.clone(), "".into(), options, FieldTable::default())
            .await?;
        loop {
            let Ok(next) = timeout(BIND_INTERVAL, consumer.next()).await else {
                topology::bind_news_queue(&channel, &queue).await?;
                continue;
            };
            let Some(delivery) = next else { return Ok(()) };
            let delivery = delivery?;
            // First, because nothing is lost with news: the acknowledgement only asks for more.
            delivery.acker.ack(BasicAckOptions::default()).await?;
            self.hear(&Bytes::from(delivery.data));
        }
    }

    fn hear(&self, message: &Bytes) {
        let news = match news::read(message) {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "a message of news cannot be read");
                return;
            }
        };
        for stock in &news.stock {
            self.board.hear(stock);
        }
        for (sku, rules) in news.ruled {
            self.board.hear_rules(&sku, rules);
        }
        if let Some(switch) = news.switch {
            self.switch.hear(switch);
        }
        // The documents stay where they are: the cache holds slices of the message.
        let known_at = Instant::now();
        let outcome = |settled: &SettledNews<&RawValue>| Outcome {
            revision: settled.revision,
            is_final: settled.is_final,
            known_at,
            document: message.slice_ref(settled.document.get().as_bytes()),
        };
        let outcomes = news.settled.iter().map(|it| (it.order_id, outcome(it)));
        self.lately.hear(outcomes, &news.found);
        let outcomes = news.settled.iter().map(|it| (it.order_id, || outcome(it)));
        self.live.hear(outcomes);
        self.live.hear_found(&news.found);
        self.tickets.hear(&news.answers);
        if let Some(queue) = news.queue {
            self.backlog.taken(queue);
        }
    }
}
