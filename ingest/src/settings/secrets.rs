//! The secrets of an ingest process, and when they fit.

use hotrow_shared::{
    id::SECRET_LENGTH_MIN,
    settings::{COMMON_SECRETS, Problems, Secret, given},
};

use crate::auth::settings::{ADMIN_TOKEN, ADMIN_TOKEN_PREVIOUS, AUTH_SECRET};

pub(super) const STRIPE_WEBHOOK_SECRET: Secret = Secret {
    name: "STRIPE_WEBHOOK_SECRET",
    help: "Signing secret of the webhook endpoint by which Stripe tells of payments, `whsec_…`; without one \
           `/v1/payments/stripe` is 404. In a file, SIGHUP replaces it",
};
/// The secrets of an ingest process.
pub(super) const SECRETS: [&Secret; 8] = {
    let [database, amqp, order_ids, order_ids_before] = COMMON_SECRETS;
    [
        database,
        amqp,
        order_ids,
        order_ids_before,
        &ADMIN_TOKEN,
        &ADMIN_TOKEN_PREVIOUS,
        &AUTH_SECRET,
        &STRIPE_WEBHOOK_SECRET,
    ]
};

/// The secret of Stripe's endpoint, if there is one.
pub(super) fn webhook_secret(secret: Option<&str>, problems: &mut Problems) -> Option<String> {
    let secret = given(secret)?;
    let is_visible = secret.bytes().all(|b| b.is_ascii_graphic());
    // Stripe makes it, so that none is too short or published, not in development either.
    if !secret.starts_with("whsec_") || secret.len() < SECRET_LENGTH_MIN || !is_visible {
        problems.add(
            "STRIPE_WEBHOOK_SECRET: must be the signing secret that Stripe shows for the endpoint, which begins with whsec_",
        );
    }
    Some(secret.to_owned())
}
