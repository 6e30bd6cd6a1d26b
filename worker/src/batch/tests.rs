//! Batches over deliveries that a test hands in.

use hotrow_shared::{
    envelope::{Command, Order},
    id::IdMint,
    order::{CustomerId, Items},
    seal::Seal,
};
use tokio::sync::mpsc;

use super::*;

const LIMITS: BatchLimits = BatchLimits {
    orders_max: 8,
    bytes_max: 10_000,
    wait: Duration::ZERO,
};

fn delivery(tag: u64, orders: usize) -> Delivery {
    let mint = IdMint::new("a secret of a test", None);
    let arrived = |number| Arrived {
        command: Command::Place(Order {
            id: mint.mint(number),
            customer_id: CustomerId::try_from("c").expect("a valid name"),
            items: serde_json::from_str::<Items>(r#"[{"sku":"chair","quantity":1}]"#)
                .expect("valid items"),
            accepted_ms: 1,
            key: None,
            request_id: None,
        }),
        redelivered: false,
        seal: Seal::Current,
    };
    Delivery {
        tag,
        commands: (0..orders as u64).map(arrived).collect(),
        faulty: Vec::new(),
        size_bytes: orders * 100,
        room: Room::default(),
        since: Instant::now(),
    }
}

/// Batches over envelopes of these sizes, tagged 1, 2, 3 and so on, all of which are here.
async fn batches(
    envelopes: &[usize],
    limits: BatchLimits,
) -> (Batches, mpsc::Sender<Result<Delivery, BrokerError>>) {
    let (sender, deliveries) = mpsc::channel(64);
    for (tag, orders) in (1..).zip(envelopes) {
        let sent = sender.send(Ok(delivery(tag, *orders))).await;
        sent.expect("there is room");
    }
    (Batches::of(deliveries, limits, Turns::default()), sender)
}

async fn next(batches: &mut Batches, stop: &CancellationToken) -> Option<(u64, usize, ClosedBy)> {
    let next = batches.next(stop).await.expect("the channel is there");
    next.map(|(batch, _)| (batch.last_tag, batch.commands.len(), batch.closed_by))
}

#[tokio::test]
async fn whole_envelopes_fill_a_batch_and_the_one_that_does_not_fit_begins_the_next() {
    let stop = CancellationToken::new();
    let (mut batches, _sender) = batches(&[3, 3, 3, 20, 1], LIMITS).await;
    assert_eq!(
        next(&mut batches, &stop).await,
        Some((2, 6, ClosedBy::Full))
    );
    assert_eq!(
        next(&mut batches, &stop).await,
        Some((3, 3, ClosedBy::Full))
    );
    assert_eq!(
        next(&mut batches, &stop).await,
        Some((4, 20, ClosedBy::Full)),
        "an envelope is never split here"
    );
    assert_eq!(
        next(&mut batches, &stop).await,
        Some((5, 1, ClosedBy::Drained))
    );
}

#[tokio::test]
async fn a_batch_is_full_of_bytes_as_well_as_of_orders() {
    let stop = CancellationToken::new();
    let limits = BatchLimits {
        bytes_max: 450,
        ..LIMITS
    };
    let (mut batches, _sender) = batches(&[2, 2, 1, 7, 1], limits).await;
    for batch in [
        (2, 4, ClosedBy::Full),
        (3, 1, ClosedBy::Full),
        (4, 7, ClosedBy::Full),
        (5, 1, ClosedBy::Drained),
    ] {
        assert_eq!(next(&mut batches, &stop).await, Some(batch));
    }
}

#[tokio::test]
async fn the_wait_for_a_turn_ends_with_the_stop_and_a_turn_that_is_free_is_taken() {
    let stop = CancellationToken::new();
    let (mut batches, _sender) = batches(&[2], LIMITS).await;
    let turns = batches.turns.clone();
    let others = turns.next(&stop).await;
    let stopped = stop.clone();
    let waiting = tokio::spawn(async move { next(&mut batches, &stopped).await });
    stop.cancel();
    assert_eq!(waiting.await.expect("it does not panic"), None);
    drop(others);
    assert!(turns.next(&stop).await.is_some());
}

#[tokio::test]
async fn what_comes_while_others_have_their_turn_joins_the_batch() {
    let stop = CancellationToken::new();
    let (mut batches, sender) = batches(&[2], LIMITS).await;
    let turn = batches.turns.next(&stop).await;
    let waiting = tokio::spawn(async move { next(&mut batches, &stop).await });
    while sender.capacity() < 64 {
        tokio::task::yield_now().await;
    }
    sender
        .send(Ok(delivery(2, 3)))
        .await
        .expect("there is room");
    drop(turn);
    let batch = waiting.await.expect("it does not panic");
    assert_eq!(batch, Some((2, 5, ClosedBy::Drained)));
}

#[tokio::test]
async fn a_batch_that_waits_is_closed_by_the_stop_and_no_other_begins() {
    let stop = CancellationToken::new();
    let wait = Duration::from_hours(1);
    let (mut batches, sender) = batches(&[2, 1], BatchLimits { wait, ..LIMITS }).await;
    let stopped = stop.clone();
    let waiting = tokio::spawn(async move {
        let batch = next(&mut batches, &stopped).await;
        (batch, next(&mut batches, &stopped).await)
    });
    while sender.capacity() < 64 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let (batch, after) = waiting.await.expect("it does not panic");
    assert_eq!(batch, Some((2, 3, ClosedBy::Shutdown)));
    assert_eq!(after, None);
}

#[tokio::test]
async fn the_end_of_the_channel_is_an_error_and_no_empty_batch() {
    let stop = CancellationToken::new();
    let (mut batches, sender) = batches(&[1], LIMITS).await;
    drop(sender);
    assert_eq!(
        next(&mut batches, &stop).await,
        Some((1, 1, ClosedBy::Drained))
    );
    assert!(matches!(batches.next(&stop).await, Err(BrokerError::Ended)));
}

#[tokio::test]
async fn a_turn_that_lasts_too_long_passes_to_the_next_while_its_work_goes_on() {
    let turns = Turns::default();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let stop = CancellationToken::new();
    let turn = turns.next(&stop).await.expect("nobody else has one");
    let long = tokio::spawn(turn.during(async { finished.await.is_ok() }));
    let _next = turns.next(&stop).await;
    assert!(!long.is_finished());
    finish.send(()).expect("the work goes on");
    assert!(long.await.expect("it does not panic"));
}
