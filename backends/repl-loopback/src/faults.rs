//! What a hub does to links, as data.

use std::time::Duration;

/// A link that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkOpening {
    /// How many links the hub was asked for before this one.
    pub number: u64,
    /// The endpoint that dials.
    pub from: String,
    /// The endpoint that is dialed.
    pub to: String,
}

/// What is done to one link. The default is nothing.
///
/// Messages are counted over both directions together, in the order in which `send` takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// The dialed endpoint cannot be reached.
    pub refuse: bool,
    /// The link breaks when it is given one message more than this. What the receivers could
    /// have had by then they still get; the rest is lost.
    pub break_after: Option<u64>,
    /// From the message after this many on, everything is taken and nothing delivered, neither
    /// messages nor a close.
    pub half_open_after: Option<u64>,
    /// How long a message travels, in the hub's time.
    pub delay: Duration,
    /// Bytes a second and direction, in the hub's time.
    pub bytes_per_second: Option<u64>,
    /// The accepting side gets a second link, of the same peer, whose other end nobody reads: what
    /// an accepting side sees of a peer that dialed again because it had lost the first link.
    pub duplicate: bool,
}

impl Faults {
    /// Faults drawn from a seed, the same for the same seed and link: about one link of three
    /// breaks early, one of eight half-opens, one of ten is refused or duplicated.
    ///
    /// ```
    /// use trellis_repl_loopback::{Faults, LinkOpening};
    ///
    /// let opening = LinkOpening { number: 3, from: "edge".into(), to: "hub".into() };
    /// assert_eq!(Faults::drawn(7, &opening), Faults::drawn(7, &opening));
    /// ```
    #[must_use]
    pub fn drawn(seed: u64, opening: &LinkOpening) -> Self {
        let mut state = opening.number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed;
        let mut below = |bound: u64| {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)) % bound
        };
        Self {
            refuse: below(10) == 0,
            break_after: (below(3) == 0).then(|| below(60)),
            half_open_after: (below(8) == 0).then(|| below(60)),
            delay: Duration::from_millis(if below(2) == 0 { below(200) } else { 0 }),
            bytes_per_second: (below(4) == 0).then(|| 10_000 + below(1_000_000)),
            duplicate: below(10) == 0,
        }
    }
}
