//! Why tokens are refused.

use jsonwebtoken::errors::{Error, ErrorKind};

/// The longest token, in bytes. Those of identity providers have one or two thousand.
pub(super) const TOKEN_LENGTH_MAX: usize = 16 * 1024;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("it is no signed JSON Web Token with an exp")]
    Malformed,
    #[error("it is longer than {TOKEN_LENGTH_MAX} characters")]
    TooLarge,
    #[error("its algorithm is not that of the key")]
    Algorithm,
    #[error("its key is not known")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("its issuer is another")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("its sub is missing, is admin-token, or cannot be a customer id")]
    Subject,
    #[error("it is not the token of the administrators")]
    NotTheAdmins,
    /// The keys that would tell could not be read: none since the start, or none newer than those that do not have the
    /// token's. Nothing is known of the token.
    #[error("the keys cannot be read")]
    NoKeys,
}

impl Refused {
    /// Every reason: the label values of `hotrow_tokens_refused_total`.
    pub(super) const ALL: [Self; 12] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Issuer,
        Self::Audience,
        Self::Subject,
        Self::NotTheAdmins,
        Self::NoKeys,
    ];

    /// The word in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::NotTheAdmins => "admin_token",
            Self::NoKeys => "no_keys",
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Self::Issuer,
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Self::Audience,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Self::Algorithm,
            _ => Self::Malformed,
        }
    }
}
