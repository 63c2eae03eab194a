//! `Groups`: calls the store's methods of the same name.

use std::time::Duration;

use super::as_stored;
use crate::{
    broker::{
        Aggregation, BrokerError, Conflict, DueGroups, Group, GroupInfo, Groups, SetApart, Store,
    },
    task::Name,
};

impl<S: Store> Groups for S {
    as_stored! {
        fn due_groups(['life1] queues: [Name], ['life2] events: [Name], limit: usize) -> DueGroups;
        fn groups(['life1] queue: Name, limit: usize) -> Vec<GroupInfo>;
        fn aggregate(aggregation: Aggregation) -> Result<bool, Conflict>;
        fn set_apart(members: SetApart) -> usize;
        fn postpone(['life1] group: Group, delay: Duration) -> ();
    }
}
