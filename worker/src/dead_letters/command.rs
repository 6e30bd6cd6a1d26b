//! `hotrow-worker dead-letters list|replay|discard`: what a person does with dead letters.

use std::io::Write;

use anyhow::{Context, ensure};
use hotrow_shared::{
    broker::Broker,
    database,
    envelope::{Command, Opened},
    id::OrderId,
    publish,
    seal::Seal,
    topology::{self, DEAD_QUEUE, ORDERS_EXCHANGE},
};
use lapin::{Channel, options::BasicAckOptions, types::FieldTable};
use nix::unistd::{Uid, User};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    DeadReason, failed,
    letter::{Letter, Pile, UNKNOWN},
};
use crate::{
    deliveries,
    seals::Seals,
    settings::{DeadLetterAction, Selection, Settings},
    store::{StoreError, audit_log, orders},
};

/// Reasons that the broker gives (RabbitMQ, "Dead Letter Exchanges").
const REASONS_OF_THE_BROKER: [&str; 4] = ["delivery_limit", "rejected", "expired", "maxlen"];

/// A selection that can mean something.
struct Meant {
    order: Option<OrderId>,
    reason: Option<String>,
    /// Whether the person said which letters are meant.
    is_clear: bool,
}

/// What became of a letter.
enum Dealt {
    /// It goes off the queue.
    Done,
    /// It stays, because nobody vouches for it.
    Doubted,
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

    /// Whether a letter is meant.
    fn means(&self, letter: &Letter) -> bool {
        let id_fits = self.order.is_none_or(|id| letter.order_ids.contains(&id));
        let reason = self.reason.as_ref();
        id_fits && reason.is_none_or(|reason| *reason == letter.reason)
    }

    /// Whether the person vouches for what letters say whose seal is wrong or missing: nothing else that they say of
    /// themselves, such as the ids of orders, shows who wrote them.
    fn vouches(&self) -> bool {
        let reason = self.reason.as_deref();
        DeadReason::DOUBTED
            .into_iter()
            .any(|doubted| reason == Some(doubted.as_str()))
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
        seals: Seals::new(settings),
        partitions: common.plan.partitions,
        source: settings.source_if_told(),
    };
    match action {
        DeadLetterAction::List(_) => desk.list(meant).await,
        DeadLetterAction::Replay(_) => {
            let replay = async |letter: &Letter| {
                let seal = if meant.vouches() {
                    Seal::Current
                } else if letter.is_believed {
                    letter.seal
                } else {
                    return Ok(Dealt::Doubted);
                };
                desk.replay(letter, seal).await?;
                Ok(Dealt::Done)
            };
            desk.each(meant, "replayed", replay).await
        }
        DeadLetterAction::Discard(_) => {
            let discard = async |letter: &Letter| {
                desk.discard(letter).await?;
                Ok(Dealt::Done)
            };
            desk.each(meant, "discarded", discard).await
        }
    }
}

struct Desk {
    pool: PgPool,
    broker: Broker,
    seals: Seals,
    partitions: u16,
    /// The name of the installation in its events, if there are any.
    source: Option<String>,
}

impl Desk {
    /// Prints letters. None is acknowledged: they go back with the end of the channel.
    async fn list(&self, meant: &Meant) -> anyhow::Result<()> {
        let mut count = 0;
        let mut out = std::io::stdout().lock();
        let mut pile = Pile::on(self.broker.channel().await?, &self.seals);
        while let Some(letter) = pile.next().await? {
            if meant.means(&letter) {
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
        deal: impl AsyncFn(&Letter) -> anyhow::Result<Dealt>,
    ) -> anyhow::Result<()> {
        let mut pile = Pile::on(self.broker.channel().await?, &self.seals);
        let (mut count, mut doubted) = (0, 0);
        while let Some(letter) = pile.next().await? {
            if !meant.means(&letter) {
                continue;
            }
            if let Dealt::Doubted = deal(&letter).await? {
                doubted += 1;
                continue;
            }
            let acked = letter.delivery.acker.ack(BasicAckOptions::default());
            acked.await?;
            count += 1;
        }
        // An acknowledgement is on its way when the channel says good-bye in order.
        pile.channel.close(200, "done".into()).await?;
        self.broker.close().await;
        println!("{done}: {count}");
        ensure!(
            doubted == 0,
            "{doubted} left where they are: their seal is wrong or missing. Look at them with `list`; if you know who \
             wrote them, and that all they say is true, replay them by --reason wrong_seal or --reason unsealed"
        );
        say_if_none(count);
        // A script that names an order must not take silence for success.
        ensure!(
            count > 0 || meant.order.is_none(),
            "there is no dead letter of this order"
        );
        Ok(())
    }

    /// Records what is done with a letter, in the transaction of the change, before it leaves the queue.
    async fn record(
        transaction: &mut PgConnection,
        action: &str,
        letter: &Letter,
    ) -> Result<(), sqlx::Error> {
        let first = letter.order_ids.first().map(ToString::to_string);
        let subject = first.unwrap_or_else(|| DEAD_QUEUE.to_owned());
        let before = json!({
            "reason": letter.reason,
            "detail": letter.detail,
            "order_ids": letter.order_ids,
        });
        let request_id = letter.request_ids.first();
        audit_log::record(
            transaction,
            &operator(),
            action,
            &subject,
            &before,
            request_id,
        )
        .await
    }

    /// Publishes a letter again, as if its orders came in now. They read `queued` from here on.
    ///
    /// Each order goes to the queue that its items have today. What is not an order goes to where it
    /// came from: a newer worker may be able to read it. All of it is sealed anew, as `seal` says: where seals are not
    /// required, a letter without one goes out without one, or it would be believed where they are.
    ///
    /// The record comes first: a crash or a broker that goes away behind the commit leaves the letter in the queue, and
    /// the next replay is recorded again. So the record may say more than was done, and never less.
    async fn replay(&self, letter: &Letter, seal: Seal) -> anyhow::Result<()> {
        let Opened {
            commands,
            unreadable,
        } = &letter.opened;
        let came_from = letter
            .partition
            .filter(|partition| *partition < self.partitions);
        let mut messages = Vec::with_capacity(commands.len() + unreadable.len());
        for command in commands {
            messages.push((command.partition(self.partitions), command.alone()));
        }
        for piece in unreadable {
            let partition = came_from
                .context("a dead letter does not say which partition it came from: discard it")?;
            messages.push((partition, piece.body.clone()));
        }
        let channel = publish::confirming_channel(&self.broker).await?;
        let mut transaction = self.pool.begin().await?;
        for command in commands {
            if let Command::Place(order) = command {
                orders::mark_replayed(&mut *transaction, order.id.uuid()).await?;
            }
        }
        Self::record(&mut transaction, "dead_letter.replay", letter).await?;
        transaction.commit().await?;
        for (partition, body) in messages {
            self.send(&channel, partition, &body, seal).await?;
        }
        channel.close(200, "replayed".into()).await?;
        Ok(())
    }

    async fn send(
        &self,
        channel: &Channel,
        partition: u16,
        body: &[u8],
        seal: Seal,
    ) -> Result<(), publish::PublishError> {
        let key = topology::routing_key(partition);
        let mut headers = FieldTable::default();
        self.seals.keys.pass_on(seal, body, &mut headers);
        publish::confirmed(channel, ORDERS_EXCHANGE, &key, body, headers).await
    }

    /// Makes sure that the orders of a letter read `failed`. Those that the broker dead-lettered do not yet.
    ///
    /// A letter that is not believed may name orders of others, and touches none.
    async fn discard(&self, letter: &Letter) -> anyhow::Result<()> {
        let commands = if letter.is_believed {
            &letter.opened.commands[..]
        } else {
            &[]
        };
        let mut transaction = self.pool.begin().await?;
        for command in commands {
            let Command::Place(order) = command else {
                continue;
            };
            let marked = failed::mark(&mut transaction, order, self.source.as_deref());
            match marked.await {
                Err(StoreError::Refused(error) | StoreError::MissingDay(error)) => {
                    tracing::warn!(order_id = %order.id, %error, "cannot be marked as failed");
                }
                marked => marked?,
            }
        }
        Self::record(&mut transaction, "dead_letter.discard", letter).await?;
        transaction.commit().await?;
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
