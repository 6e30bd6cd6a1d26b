//! What came by, and how much of it is under way.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use hyper::Request;

use super::Route;

/// A request that came by.
#[derive(Debug, Clone)]
pub(in crate::browser) struct Seen {
    pub(in crate::browser) route: Route,
    /// Path and query.
    pub(in crate::browser) target: String,
    /// Its idempotency key.
    pub(in crate::browser) key: Option<String>,
}

#[derive(Default)]
pub(super) struct Record {
    seen: Mutex<Vec<Seen>>,
    open: Arc<AtomicUsize>,
}

/// A request that is not answered to its end.
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Record {
    pub(super) fn begin<T>(&self, route: Route, request: &Request<T>) -> UnderWay {
        let key = request.headers().get("idempotency-key");
        let seen = Seen {
            route,
            target: request.uri().to_string(),
            key: key.and_then(|key| Some(key.to_str().ok()?.to_owned())),
        };
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(seen);
        self.open.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.open))
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
