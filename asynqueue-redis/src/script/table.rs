//! The table of scripts: the keys and arguments of each, by name, for callers and for Lua.
//!
//! A script `retire` is a file `scripts/retire.lua` and an entry here:
//!
//! ```text
//! /// Archives tasks that have waited for too long.
//! retire {
//!     shared: clock first_due;          // files of `scripts/shared/`, in this order
//!     keys of QueueKeys: tasks scheduled retry;
//!     args: not_after limit;            // `not_after` comes first; the body checks it by `clock(not_after)`
//!     row Task: id envelope;            // any number of times, behind the arguments
//! }
//! ```
//!
//! The caller uses the same names, and the compiler reports a missing one:
//!
//! ```text
//! let args = script::retire::Args { not_after: self.script_clock(), limit };
//! let mut call = script::retire::call(&queue.keys, args);
//! call.row(script::retire::Task { id: task.id.as_str(), envelope });
//! call.send(self.link()).await?;
//! ```
//! In Lua, each key and argument is a local variable of its name. `ROWS` is the index of the first row. The position of
//! a field in its row is its name in capitals, and `TASK_ROW` is the length of a row `Task`:
//!
//! ```text
//! for at = ROWS, #ARGV, TASK_ROW do local id, envelope = ARGV[at + ID], ARGV[at + ENVELOPE] end
//! ```
//!
//! The table `keys` has the keys that shared functions use, as their entry lists them.
//!
//! `keys of QueueKeys` takes fields of a struct in [`keys`](crate::keys). `keys:` alone creates a struct `Keys` of
//! strings, for keys with separate names in the script. `.. others` after the keys stands for any number of additional
//! keys. The first has the index `OTHERS` in `KEYS`.
//!
//! Tests compare the names that each script uses with its entry. They need no Redis: `cargo test -p asynqueue-redis
//! --lib`.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs};

use super::{
    Call, Script, push,
    source::{self, Source},
};
use crate::keys::{QueueKeys, SpaceKeys};

shared! {
    clock;
    lane;
    day;
    whole;
    index;
    read;
    members;
    waking: meta events idle;
    pending: pending urgent meta;
    first_due: scheduled retry;
    waiting: scheduled retry events owner;
    groups: aggregating grouped groups;
    joining: aggregating grouped groups events;
    unlist: urgent gone meta pending since scheduled retry completed archived;
    holding: locks lock_ends;
    gone: tasks pending urgent scheduled retry archived completed gone;
    places: meta urgent scheduled retry archived completed aggregating active leases;
}

scripts! {
    /// Accepts tasks.
    enqueue {
        shared: clock lane whole waking pending first_due waiting members groups joining index places;
        keys of QueueKeys: tasks locks priorities lanes pending urgent scheduled retry meta events aggregating
            grouped groups fired lock_ends idle owner archived completed active leases;
        args: not_after lane number publish specials;
        row Special: place how time priority lock ttl window group tick;
        row Task: id envelope;
    }

    /// Leases the next tasks.
    lease {
        shared: clock lane whole index;
        keys of QueueKeys: tasks pending urgent active since gone lanes meta stats idle leases workers;
        args: not_after lane number token limit millis tag worker bytes step instance;
    }

    /// Leases again the tasks of a call whose response was lost.
    leased {
        shared: clock lane waking pending index read;
        keys of QueueKeys: active tasks lanes leases priorities since pending urgent meta events idle;
        args: not_after lane number token millis bytes publish;
    }

    /// Extends leases.
    extend {
        shared: clock;
        keys of QueueKeys: active cancels;
        args: not_after millis;
        row Lease: lease;
    }

    /// Records outcomes.
    settle {
        shared: clock lane whole waking pending first_due waiting index;
        keys of QueueKeys: tasks active archived completed locks results stats priorities since lanes cancels
            progress waiters done pending urgent scheduled retry meta events hours lock_ends idle owner leases;
        args: not_after lane number publish simple;
        row Simple: lease id;
        row Other: lease id outcome marks envelope millis lock priority result;
    }

    /// Makes due tasks pending.
    forward {
        shared: clock waking pending first_due;
        keys of QueueKeys: priorities since pending urgent scheduled retry meta events idle;
        args: not_after publish limit;
    }

    /// Finds expired leases.
    expired {
        shared: clock read;
        keys of QueueKeys: active tasks stats;
        args: not_after limit by bytes;
    }

    /// Deletes finished tasks and hourly counts that are past their retention.
    trim {
        shared: clock;
        keys of QueueKeys: tasks completed archived results priorities hours stats idle;
        args: not_after archived_for archived_max limit hours_kept idle_max;
    }

    /// Releases locks.
    unlock {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after;
        row Lock: lock holder;
    }

    /// Looks up tasks.
    look {
        shared: read index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active aggregating results progress meta
            leases workers since;
        args: bytes;
        row Task: id;
    }

    /// Changes single tasks on demand, each only if it still has the version that was seen.
    edit {
        shared: clock lane waking pending first_due waiting members groups unlist holding index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active pending meta events locks results
            priorities since gone cancels waiters done aggregating grouped groups lock_ends idle owner lanes leases;
        args: not_after publish lane number;
        row Task: edit id version new priority lock ends ttl;
    }

    /// Puts tasks of another store into the state that they had there.
    import {
        shared: clock lane waking pending first_due waiting members groups joining unlist holding index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active pending meta events locks results
            priorities since gone waiters done aggregating grouped groups lock_ends idle owner lanes leases;
        args: not_after publish lane number;
        row Task: id version envelope state time result priority lock ends window group;
    }

    /// Adds the statistics of another store.
    absorb {
        shared: clock;
        keys of QueueKeys: stats hours;
        args: not_after id succeeded failed lost by_count by_age last max;
        row Hour: field count;
    }

    /// Returns the due groups.
    due_groups {
        shared: clock members groups;
        keys of QueueKeys: aggregating grouped groups tasks;
        args: not_after limit bytes;
        row Event: event;
    }

    /// Returns the waiting groups.
    look_groups {
        shared: members;
        keys of QueueKeys: grouped groups;
        args: limit;
    }

    /// Replaces members of a group with one task.
    aggregate {
        shared: clock lane waking pending first_due waiting members groups holding;
        keys of QueueKeys: aggregating grouped groups pending urgent scheduled retry meta events tasks locks
            priorities lanes waiters done lock_ends idle owner;
        args: not_after lane number publish group id envelope how time priority lock ttl window;
        row Member: member held;
    }

    /// Moves members of a group into a separate part.
    set_apart {
        shared: clock lane members groups;
        keys of QueueKeys: aggregating grouped groups tasks lanes;
        args: not_after lane number from spec offset;
        row Member: id seen new;
    }

    /// Postpones a group.
    postpone {
        shared: clock;
        keys of QueueKeys: groups;
        args: not_after group millis;
    }

    /// Deletes a queue.
    delete_queue {
        shared: clock;
        keys: tasks waiters done deleted .. others;
        args: not_after lane number publish force millis;
    }

    /// The approximate memory of keys in bytes.
    memory {
        keys: .. all;
    }

    /// Returns the statistics of a queue.
    stats {
        shared: clock gone;
        keys of QueueKeys: pending urgent gone tasks archived completed scheduled retry active since meta stats
            aggregating;
        args: not_after;
    }

    /// Returns the tasks of a list that is ordered by time.
    list {
        keys: list;
        args: direction limit;
        row Place: time member;
    }

    /// Returns the tasks that wait in groups.
    list_grouped {
        keys of QueueKeys: grouped;
        args: direction limit after;
    }

    /// Returns the pending tasks, in their order.
    list_pending {
        shared: clock gone;
        keys of QueueKeys: pending urgent gone tasks archived completed scheduled retry;
        args: place limit;
    }

    /// Returns the pending tasks, last first.
    list_last_pending {
        shared: clock gone;
        keys of QueueKeys: pending urgent gone tasks archived completed scheduled retry;
        args: place after limit;
    }

    /// Notes that a caller waits for a task to end.
    wait {
        shared: clock;
        keys of QueueKeys: tasks completed archived results waiters;
        args: not_after id millis;
    }

    /// Stores the progress of tasks.
    report {
        shared: clock;
        keys of QueueKeys: active progress;
        args: not_after;
        row Report: lease value;
    }

    /// Pauses or resumes leasing.
    pause {
        shared: clock lane waking;
        keys of QueueKeys: meta pending urgent events idle lanes;
        args: not_after lane number publish stop;
    }

    /// Wakes other instances for pending tasks.
    wake {
        shared: clock waking;
        keys of QueueKeys: pending urgent meta events idle;
        args: not_after publish leaving;
    }

    /// Changes documents in sets, each set only if all of its documents are as expected.
    swap_documents {
        shared: clock lane day;
        keys: lanes .. spaces;
        args: not_after lane number counted;
        row Change: set space name expect put due_at;
    }

    /// Adds figures over time.
    add_points {
        shared: clock lane day;
        keys: lanes .. spans;
        args: not_after lane number;
        row Point: span group key figures note max_keys kept;
    }

    /// Returns the due documents of a space.
    due_documents {
        shared: clock;
        keys of SpaceKeys: documents due;
        args: not_after passed limit;
    }

    /// Counts tasks and their entries.
    check {
        keys of QueueKeys: tasks pending meta gone stats locks lock_ends waiters lanes workers aggregating
            grouped groups leases urgent active scheduled retry archived completed;
    }

    /// Removes entries of missing tasks from a sorted set.
    missing {
        keys: tasks list stats;
        args: begins;
        row Entry: entry;
    }

    /// Marks entries of missing tasks in the pending list.
    missing_pending {
        keys of QueueKeys: tasks pending gone meta stats;
        row Task: id;
    }

    /// Removes missing tasks from their groups.
    missing_grouped {
        shared: clock members groups;
        keys of QueueKeys: aggregating grouped groups tasks stats;
        row Task: id;
    }

    /// Archives tasks without an entry.
    orphans {
        shared: clock index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active aggregating pending gone stats
            leases meta;
        args: not_after;
        row Task: id seen new;
    }

    /// Removes expired locks.
    ended_locks {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after limit;
    }

    /// Notes the expiry of locks.
    note_locks {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after;
        row Lock: lock;
    }

    /// Removes the noted expiry of missing locks.
    forget_ends {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after;
        row Lock: lock;
    }

    /// Removes locks of missing tasks.
    lost_locks {
        shared: clock;
        keys of QueueKeys: locks lock_ends tasks stats;
        args: not_after;
        row Lock: lock seen;
    }

    /// Removes data of missing tasks.
    without_task {
        shared: clock;
        keys: tasks kept;
        args: not_after;
        row Task: id;
    }

    /// Removes fields that still have the value that was read.
    forget {
        keys: hash;
        row Field: field seen;
    }

    /// Takes or renews the ownership of a queue.
    keep {
        shared: clock first_due;
        keys of QueueKeys: owner active tasks scheduled retry;
        args: not_after instance millis dead;
    }

    /// Releases the ownership of a queue.
    release {
        shared: clock;
        keys of QueueKeys: owner events;
        args: not_after instance publish;
    }

    /// Renews the key that shows that an instance is alive, and returns whether others are.
    alive {
        shared: clock;
        keys: own .. others;
        args: not_after millis;
    }

    /// Adds a name to a set, or removes it.
    name {
        shared: clock;
        keys: names;
        args: not_after add name;
    }

    /// Removes fields of a hash.
    remove {
        shared: clock;
        keys: hash;
        args: not_after;
        row Field: field;
    }

    /// Returns some fields of a hash without their values.
    fields {
        keys: hash;
        args: cursor count;
    }

    /// Removes workers of earlier builds without leases.
    older_workers {
        keys of QueueKeys: active meta;
    }
}
