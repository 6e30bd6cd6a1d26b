//! The signature of an event, as <https://docs.stripe.com/webhooks#verify-manually> publishes it: scheme `v1` is the
//! HMAC-SHA256 of the time of sending, a full stop and the body as it was sent. The key is the secret as text.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How far the time of sending may be from now. Stripe signs each repeat anew.
const TOLERANCE: Duration = Duration::from_mins(5);

/// Why an event is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSignature {
    /// There is no header, or it lacks a part.
    #[error("Stripe-Signature must be given once, such as t=1700000000,v1=5257a8…")]
    Unreadable,
    /// It was signed too long ago, or in the future.
    #[error("Stripe-Signature is from another time: it must be at most {} s old", TOLERANCE.as_secs())]
    OutOfTime,
    /// It was signed with another secret, or the body is another.
    #[error("Stripe-Signature does not fit the body and the secret of this endpoint")]
    Wrong,
}

/// The header of an event that was sent lately: `t=<seconds since 1970>,v1=<hex>,…`.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    header: &'a str,
    /// As it was signed.
    sent_at: &'a str,
}

impl<'a> Signature<'a> {
    /// Reads the header, as far as that needs no body.
    ///
    /// # Errors
    /// It has no time, one that is too far from `now_ms`, or no signature of the scheme.
    pub(super) fn read(header: &'a str, now_ms: u64) -> Result<Self, BadSignature> {
        let sent_at = values(header, "t").next();
        let sent_at = sent_at.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let seconds: Option<u64> = sent_at.and_then(|text| text.parse().ok());
        let (Some(sent_at), Some(seconds)) = (sent_at, seconds) else {
            return Err(BadSignature::Unreadable);
        };
        if values(header, "v1").next().is_none() {
            return Err(BadSignature::Unreadable);
        }
        if (now_ms / 1_000).abs_diff(seconds) > TOLERANCE.as_secs() {
            return Err(BadSignature::OutOfTime);
        }
        Ok(Self { header, sent_at })
    }
}

/// The values of a name. A secret that is being replaced signs, too, so there may be several signatures.
fn values<'a>(header: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = header
        .split(',')
        .filter_map(|field| field.trim().split_once('='));
    fields.filter_map(move |(named, value)| (named == name).then_some(value))
}

/// What an endpoint's events are signed with.
pub(super) struct SigningSecret(Hmac<Sha256>);

impl SigningSecret {
    /// Takes the secret as Stripe shows it, `whsec_…`.
    ///
    /// # Panics
    /// Never: a key may have any length.
    pub(super) fn new(secret: &str) -> Self {
        let keyed = Hmac::new_from_slice(secret.as_bytes());
        Self(keyed.expect("a key may have any length"))
    }

    /// Makes sure that one of the signatures is of this body and secret. That costs one hash, however many there are,
    /// and a comparison takes as long for a wrong one as for the right one.
    ///
    /// # Errors
    /// None is.
    pub(super) fn verify(
        &self,
        signature: &Signature<'_>,
        body: &[u8],
    ) -> Result<(), BadSignature> {
        let mut hash = self.0.clone();
        hash.update(signature.sent_at.as_bytes());
        hash.update(b".");
        hash.update(body);
        let right = hex::encode(hash.finalize().into_bytes());
        let fits = |given: &str| bool::from(given.as_bytes().ct_eq(right.as_bytes()));
        if values(signature.header, "v1").any(fits) {
            Ok(())
        } else {
            Err(BadSignature::Wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    const SECRET: &str = "whsec_5f3ZkPq0Yt8wLrX1";
    const BODY: &[u8] = br#"{"id":"evt_1","type":"payment_intent.succeeded"}"#;
    const SENT_AT: u64 = 1_760_000_000;
    const NOW_MS: u64 = SENT_AT * 1_000;
    /// By `openssl dgst -sha256 -hmac $SECRET` of the time, a full stop and the body.
    const BY_OPENSSL: &str = "bc4162a4e776cd977694067317643ad87c7c142f9a2ff7c754abc969d5c08de8";

    /// The scheme by the definition of HMAC (RFC 2104), with nothing but the hash.
    fn signed(secret: &str, sent_at: u64, body: &[u8]) -> String {
        let mut key = [0_u8; 64];
        key[..secret.len()].copy_from_slice(secret.as_bytes());
        let padded = |with: u8| key.map(|byte| byte ^ with);
        let message = [format!("{sent_at}.").as_bytes(), body].concat();
        let inner = Sha256::digest([&padded(0x36)[..], &message].concat());
        let outer = Sha256::digest([&padded(0x5c)[..], &inner[..]].concat());
        hex::encode(outer)
    }

    fn check(header: &str, body: &[u8], now_ms: u64) -> Result<(), BadSignature> {
        let signature = Signature::read(header, now_ms)?;
        SigningSecret::new(SECRET).verify(&signature, body)
    }

    #[test]
    fn a_body_that_was_signed_with_the_secret_is_believed() {
        assert_eq!(signed(SECRET, SENT_AT, BODY), BY_OPENSSL);
        let header = format!("t={SENT_AT},v1={BY_OPENSSL},v0=6ffbb59b2300aae63f272406069a9788");
        assert_eq!(check(&header, BODY, NOW_MS), Ok(()));
        let empty = format!("t={SENT_AT}, v1={}", signed(SECRET, SENT_AT, b""));
        assert_eq!(check(&empty, b"", NOW_MS), Ok(()));
    }

    #[test]
    fn of_several_signatures_one_must_be_right() {
        let (right, other) = (BY_OPENSSL, signed("whsec_another", SENT_AT, BODY));
        for signatures in [
            format!("v1={right},v1={other}"),
            format!("v1={other},v1={right}"),
            format!("v1=,v1=x,v1={right}"),
        ] {
            let header = format!("t={SENT_AT},{signatures}");
            assert_eq!(check(&header, BODY, NOW_MS), Ok(()), "{header}");
        }
        let header = format!("t={SENT_AT},v1={other},v1={}", &right[..63]);
        assert_eq!(check(&header, BODY, NOW_MS), Err(BadSignature::Wrong));
        // What is signed by another scheme is not signed.
        let header = format!("t={SENT_AT},v1={other},v0={right},v2={right}");
        assert_eq!(check(&header, BODY, NOW_MS), Err(BadSignature::Wrong));
    }

    #[test]
    fn another_body_another_secret_and_another_time_are_not_believed() {
        let header = format!("t={SENT_AT},v1={BY_OPENSSL}");
        for at in 0..BODY.len() {
            let mut changed = BODY.to_vec();
            changed[at] ^= 1;
            assert_eq!(check(&header, &changed, NOW_MS), Err(BadSignature::Wrong));
        }
        let longer = [BODY, b" "].concat();
        assert_eq!(check(&header, &longer, NOW_MS), Err(BadSignature::Wrong));
        let foreign = signed("whsec_another", SENT_AT, BODY);
        let foreign = format!("t={SENT_AT},v1={foreign}");
        assert_eq!(check(&foreign, BODY, NOW_MS), Err(BadSignature::Wrong));
        let later = format!("t={},v1={BY_OPENSSL}", SENT_AT + 1);
        assert_eq!(check(&later, BODY, NOW_MS), Err(BadSignature::Wrong));
    }

    #[test]
    fn five_minutes_are_tolerated_in_both_directions() {
        let header = format!("t={SENT_AT},v1={BY_OPENSSL}");
        for (away, is_late) in [(0, false), (300, false), (301, true), (86_400, true)] {
            let expected = if is_late {
                Err(BadSignature::OutOfTime)
            } else {
                Ok(())
            };
            let away_ms = away * 1_000;
            assert_eq!(check(&header, BODY, NOW_MS + away_ms), expected, "{away} s");
            assert_eq!(
                check(&header, BODY, NOW_MS - away_ms),
                expected,
                "-{away} s"
            );
        }
    }

    #[test]
    fn a_header_without_its_parts_is_refused_before_anything_is_hashed() {
        let far = format!("t={}0,v1={BY_OPENSSL}", u64::MAX);
        for header in [
            "",
            ",",
            "t",
            "t=1760000000",
            "v1=abc",
            "t=,v1=abc",
            "t=-1,v1=abc",
            "t=+1760000000,v1=abc",
            "t=1760000000.0,v1=abc",
            "t=soon,v1=abc",
            "t=1760000000,v0=abc",
            "T=1760000000,V1=abc",
            &far,
        ] {
            let read = Signature::read(header, NOW_MS).map(drop);
            assert_eq!(read, Err(BadSignature::Unreadable), "{header:?}");
        }
    }
}
