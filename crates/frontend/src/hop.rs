//! Headers that are between two neighbours, and never passed on.

use hyper::header::{
    CONNECTION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// Whether a header says how this connection works, not what the message is. Source: RFC 9110, 7.6.1.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    const ALL: [HeaderName; 7] =
        [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    ALL.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
