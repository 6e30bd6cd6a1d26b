//! Who may call a route: one row of the table of roles.

use hotrow_shared::change::Role;

use crate::http::code::Code;

/// Who may call a route.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    /// Everybody, with a token or without. A token that is sent is checked all the same.
    Anybody,
    /// Callers whose token has one of these roles.
    Roles {
        roles: &'static [Role],
        /// Whether callers without a token may, too, in a shop that checks none.
        open: bool,
    },
}

impl Who {
    /// Places orders. Support helps with orders that others placed.
    pub(crate) const BUYERS: Self = Self::Roles {
        roles: &[Role::Customer, Role::Shop, Role::Admin],
        open: true,
    };
    /// Reads orders; a customer its own.
    pub(crate) const READERS: Self = Self::Roles {
        roles: &[Role::Customer, Role::Support, Role::Shop, Role::Admin],
        open: true,
    };
    /// Reads the history of orders and cancels them; a customer its own.
    pub(crate) const PARTIES: Self = Self::Roles {
        roles: &[Role::Customer, Role::Support, Role::Shop, Role::Admin],
        open: false,
    };
    /// Whoever works for the shop.
    pub(crate) const STAFF: Self = Self::Roles {
        roles: &[Role::Support, Role::Shop, Role::Admin],
        open: false,
    };
    /// The shop's programs.
    pub(crate) const SHOP: Self = Self::Roles {
        roles: &[Role::Shop, Role::Admin],
        open: false,
    };
    /// Administrators.
    pub(crate) const ADMINS: Self = Self::Roles {
        roles: &[Role::Admin],
        open: false,
    };

    /// Returns whether a caller with this role may.
    #[must_use]
    pub(super) fn admits(self, role: Role) -> bool {
        match self {
            Self::Anybody => true,
            Self::Roles { roles, .. } => roles.contains(&role),
        }
    }

    /// Returns whether a caller without a token may. An open shop is one that checks no tokens.
    #[must_use]
    pub(crate) fn admits_unknown(self, is_open_shop: bool) -> bool {
        match self {
            Self::Anybody => true,
            Self::Roles { open, .. } => open && is_open_shop,
        }
    }

    /// Whether what its callers change is on record.
    #[must_use]
    pub(super) fn is_on_record(self) -> bool {
        matches!(
            self,
            Self::Roles {
                roles: &[Role::Admin],
                ..
            }
        )
    }

    /// What the gate refuses in place of the route.
    #[must_use]
    pub(crate) fn refusals(self) -> &'static [Code] {
        const TOKEN: &[Code] = &[Code::Unauthorized, Code::RateLimited, Code::Unavailable];
        const ROLE: &[Code] = &[
            Code::Unauthorized,
            Code::Forbidden,
            Code::RateLimited,
            Code::Unavailable,
        ];
        match self {
            Self::Roles { roles, .. } if roles.len() < Self::ROLES => ROLE,
            Self::Anybody | Self::Roles { .. } => TOKEN,
        }
    }

    /// How many roles a token can have.
    const ROLES: usize = 4;
}
