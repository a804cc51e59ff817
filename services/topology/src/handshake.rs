//! The first words: who the nodes are, whether they understand each other, what they do for each
//! other.

use crate::message::{
    Hello, Message, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Refusal, RefusalReason, ZoneOffer,
};
use crate::plan::{LinkPlan, ZONES_MAX};
use crate::session::Role;
use crate::session_options::SessionConfig;

/// What this build can do besides the protocol itself.
const FEATURES: [&str; 1] = ["digest"];
/// Bytes of a label at most.
const NAME_BYTES_MAX: usize = 256;

/// What this node says of itself.
pub(crate) fn hello(role: &Role, config: &SessionConfig, head: u64, wall_ms: u64) -> Hello {
    let (pull, push) = match role {
        Role::Dialer(dial) => (dial.pull.clone(), dial.push.clone()),
        Role::Acceptor(_) => (Vec::new(), Vec::new()),
    };
    Hello {
        protocol_min: PROTOCOL_VERSION_MIN,
        protocol_max: PROTOCOL_VERSION,
        node: config.node,
        name: config.name.clone(),
        epoch: config.epoch,
        life: config.life,
        attempt: config.attempt,
        head,
        wall_ms,
        schema: config.schema,
        features: FEATURES.map(str::to_owned).into(),
        pull,
        push,
    }
}

/// The plan of the link, as this node sees it, once the other has said who it is.
pub(crate) fn agree(
    role: &Role,
    config: &SessionConfig,
    hello: &Hello,
) -> Result<LinkPlan, Refusal> {
    let named = [hello.pull.len(), hello.push.len(), hello.features.len()];
    let plain = hello.name.len() <= NAME_BYTES_MAX && !hello.name.chars().any(char::is_control);
    if named.iter().any(|named| *named > ZONES_MAX) || !plain {
        return Err(Refusal::protocol("a hello names more than any node has"));
    }
    let unsupported = |message: String| Refusal::new(RefusalReason::Unsupported, message);
    if hello.protocol_min > PROTOCOL_VERSION || hello.protocol_max < PROTOCOL_VERSION_MIN {
        return Err(unsupported(format!(
            "this node speaks the protocol from {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, \
             the other from {} to {}: update the older one",
            hello.protocol_min, hello.protocol_max
        )));
    }
    if hello.node == config.node {
        return Err(Refusal::new(
            RefusalReason::DuplicateNode,
            "the other node has this node's id: it is a copy of its data directory, or itself; \
             make copies by backup and restore, which gives them an id of their own",
        ));
    }
    if crate::message::origin(hello.node) == crate::message::origin(config.node)
        || crate::message::origin(hello.node) == 0
    {
        let message = "the ids of the two nodes end alike: restore one of them from a backup";
        return Err(Refusal::new(RefusalReason::DuplicateNode, message));
    }
    let critical = hello.features.iter().filter_map(|feature| feature.strip_prefix('!'));
    if let Some(unknown) = critical.into_iter().find(|feature| !FEATURES.contains(feature)) {
        return Err(unsupported(format!("this node lacks the feature {unknown}: update it")));
    }
    match role {
        Role::Dialer(dial) => {
            let none = |offers: &[ZoneOffer]| offers.is_empty();
            if !none(&hello.pull) || !none(&hello.push) {
                return Err(Refusal::protocol("the node that accepts offers zones"));
            }
            Ok(dial.link.clone())
        }
        Role::Acceptor(policy) => policy.admit(&config.peer, hello),
    }
}

/// Whether a first word comes from the right end, when none was said yet.
pub(crate) fn first_word(role: &Role, message: Message) -> Result<Hello, Refusal> {
    match (role, message) {
        (Role::Acceptor(_), Message::Hello(hello)) | (Role::Dialer(_), Message::Welcome(hello)) => {
            Ok(hello)
        }
        (_, Message::Hello(_) | Message::Welcome(_)) => {
            Err(Refusal::protocol("the first word comes from the wrong end"))
        }
        _ => Err(Refusal::protocol("something is said before the first word")),
    }
}
