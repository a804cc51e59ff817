//! Defects planted into the merge and the sessions: what the simulation is worth.

/// A planted defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// In the tree.
    Tree(trellis_tree::planted::Planted),
    /// In sessions and slots.
    Session(trellis_topology::planted::Planted),
}

impl Defect {
    /// Plants it, for the whole process.
    pub fn plant(self) {
        match self {
            Self::Tree(defect) => trellis_tree::planted::plant(defect),
            Self::Session(defect) => trellis_topology::planted::plant(defect),
        }
    }

    /// Takes it back.
    pub fn take_back(self) {
        trellis_tree::planted::plant(trellis_tree::planted::Planted::None);
        trellis_topology::planted::plant(trellis_topology::planted::Planted::None);
    }
}

/// All of them.
#[must_use]
pub fn defects() -> Vec<Defect> {
    let tree = trellis_tree::planted::Planted::MISTAKES.into_iter().map(Defect::Tree);
    let sessions = trellis_topology::planted::Planted::MISTAKES.into_iter().map(Defect::Session);
    tree.chain(sessions).collect()
}
