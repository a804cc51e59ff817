//! What conditions may cost: nobody else commits while they are tested.

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Check, Commit, Condition};

use crate::{Bed, get, path, set};

/// Promise: conditions of one commit read a bounded amount together; one alone reads what it needs.
#[test]
fn many_conditions_on_large_values_are_refused_and_one_is_not() {
    let tree = Bed::new().open();
    set(&tree, "large", json!("x".repeat(4 << 20)));
    let condition =
        |hash: &str| Condition { path: path("large"), check: Check::Hash(hash.to_owned()) };
    let hash = tree.view().unwrap().hash(&path("large")).unwrap().unwrap();
    let mut many = Commit::set(path("a"), trellis_tree::Input::from_json(json!(1)).unwrap());
    many.conditions = vec![condition(&hash); 20];
    let refused = tree.commit(many.clone()).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::TooLarge);
    assert_eq!(refused.path.as_deref(), Some("large"));
    assert_eq!(get(&tree, "a"), json!(null), "nothing was written");
    many.conditions.truncate(10);
    tree.commit(many.clone()).unwrap();
    many.conditions = vec![condition("another")];
    let refused = tree.commit(many).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Conflict);
    assert_eq!(refused.failed[0].hash, Some(hash));
}
