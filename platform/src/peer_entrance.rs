//! Who may come in as a peer, and the door they come in by.
//!
//! Invariants: a token is compared in constant time with every pass there is, and stands in no
//! error, log line or `Debug`; without any pass only peers on this machine are served.
//!
//! Not here: what a peer may then pull or push, which the topology decides by its name and role.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use trellis_engine_traits::{
    Error, ErrorKind, FrameSocket, LinkToken, Peer, PeerDoor, Result, Serving,
};

/// Bytes that a token has at least: what is shorter can be guessed.
pub(crate) const TOKEN_BYTES_MIN: usize = 16;

/// What a peer shows to be let in, and who it then is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPass {
    /// The name of the node, where the pass is for one node only.
    pub name: Option<String>,
    /// The role that the grants speak of.
    pub role: Option<String>,
    /// The secret; at least 16 bytes.
    pub token: LinkToken,
}

/// Checks passes, and hands who has one to the replicator.
///
/// ```
/// use std::sync::Arc;
/// use trellis::{PeerEntrance, PeerPass};
/// use trellis_engine_traits::{LinkToken, PeerDoor};
///
/// fn entrance(door: Arc<dyn PeerDoor>) -> trellis::Result<PeerEntrance> {
///     let token = LinkToken::new("0123456789abcdef");
///     let pass = PeerPass { name: None, role: Some("edge".to_owned()), token };
///     PeerEntrance::new(vec![pass], door)
/// }
/// ```
pub struct PeerEntrance {
    passes: Vec<PeerPass>,
    door: Arc<dyn PeerDoor>,
}

impl PeerEntrance {
    /// An entrance for those who have one of `passes`; without any, for this machine alone.
    ///
    /// # Errors
    /// `InvalidInput` for a token of fewer than 16 bytes, and for one that two passes share.
    pub fn new(passes: Vec<PeerPass>, door: Arc<dyn PeerDoor>) -> Result<Self> {
        let refused = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
        for (index, pass) in passes.iter().enumerate() {
            if pass.token.reveal().len() < TOKEN_BYTES_MIN {
                return refused("a peer's token has fewer than 16 bytes; use a long random one");
            }
            if passes.iter().take(index).any(|other| other.token == pass.token) {
                return refused("two peers have the same token; give each its own");
            }
        }
        Ok(Self { passes, door })
    }

    /// Who shows this token; `address` is where the peer is, for people.
    ///
    /// # Errors
    /// `Denied` for a token that no pass has, for none where there are passes, and for peers on
    /// other machines where there are none.
    pub fn admit(&self, token: Option<&str>, is_local: bool, address: String) -> Result<Peer> {
        if self.passes.is_empty() {
            if is_local {
                return Ok(Peer { is_local, address, ..Peer::default() });
            }
            return Err(denied(
                "this node has no peer tokens, so it serves peers on its own machine only; give \
                 the peer a token on both sides",
            ));
        }
        let Some(token) = token else {
            return Err(denied("this node serves peers with a token only, and none was shown"));
        };
        let mut found = None;
        // Every pass is looked at, so that the time taken does not tell which one was close.
        for pass in &self.passes {
            if bool::from(pass.token.reveal().as_bytes().ct_eq(token.as_bytes())) {
                found = Some(pass);
            }
        }
        match found {
            Some(pass) => {
                Ok(Peer { name: pass.name.clone(), role: pass.role.clone(), is_local, address })
            }
            None => Err(denied("this node knows no peer with the token that was shown")),
        }
    }

    /// Bytes of the largest frame that comes through the door.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        self.door.frame_bytes_max()
    }

    /// Lets an admitted peer in; the future lives as long as the connection.
    #[must_use]
    pub fn enter(&self, peer: Peer, socket: Box<dyn FrameSocket>) -> Serving {
        self.door.enter(peer, socket)
    }

    /// Closes every link that came in here, for this reason.
    pub fn dismiss(&self, reason: &str) {
        self.door.dismiss(reason);
    }
}

fn denied(message: &str) -> Error {
    Error::new(ErrorKind::Denied, message).operation("admit a peer")
}

impl fmt::Debug for PeerEntrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerEntrance")
            .field("passes", &self.passes.len())
            .field("door", &self.door)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wall;

    impl PeerDoor for Wall {
        fn frame_bytes_max(&self) -> usize {
            0
        }

        fn enter(&self, _peer: Peer, _socket: Box<dyn FrameSocket>) -> Serving {
            Box::pin(std::future::ready(()))
        }

        fn dismiss(&self, _reason: &str) {}
    }

    fn entrance(tokens: &[&str]) -> Result<PeerEntrance> {
        let pass = |(index, token): (usize, &&str)| PeerPass {
            name: Some(format!("node-{index}")),
            role: Some("edge".to_owned()),
            token: LinkToken::new(*token),
        };
        PeerEntrance::new(tokens.iter().enumerate().map(pass).collect(), Arc::new(Wall))
    }

    const FIRST: &str = "first-token-of-them";
    const SECOND: &str = "second-token-of-them";

    #[test]
    fn a_pass_says_who_comes_in_and_nothing_else_lets_one_in() {
        let entrance = entrance(&[FIRST, SECOND]).expect("two passes");
        let admitted = entrance.admit(Some(SECOND), false, "far:1".to_owned()).expect("a pass");
        assert_eq!(admitted.name.as_deref(), Some("node-1"));
        assert_eq!((admitted.role.as_deref(), admitted.is_local), (Some("edge"), false));
        for (token, is_local) in [
            (None, true),
            (None, false),
            (Some("second-token-of-thex"), true),
            (Some("second-token-of-the"), false),
            (Some(""), true),
        ] {
            let error = entrance.admit(token, is_local, String::new()).expect_err("no pass");
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(!format!("{error:?}{error}").contains("second-token"));
        }
    }

    #[test]
    fn without_passes_only_this_machine_comes_in() {
        let entrance = entrance(&[]).expect("no passes");
        assert!(entrance.admit(None, true, String::new()).is_ok_and(|peer| peer.name.is_none()));
        let far = entrance.admit(Some(FIRST), false, String::new()).expect_err("another machine");
        assert_eq!(far.kind(), ErrorKind::Denied);
    }

    #[test]
    fn weak_and_shared_tokens_are_refused_and_none_is_shown() {
        for tokens in [&["short"][..], &[""], &[FIRST, FIRST]] {
            let error = entrance(tokens).expect_err("a bad token");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!format!("{error:?}").contains(FIRST));
        }
        assert!(!format!("{:?}", entrance(&[FIRST])).contains(FIRST));
    }
}
