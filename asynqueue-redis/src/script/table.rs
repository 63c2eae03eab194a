//! The table of scripts: what each is given, by name, for the caller and for Lua.
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
//! The caller names the same things, and cannot leave one out:
//!
//! ```text
//! let args = script::retire::Args { not_after: self.script_clock(), limit };
//! let mut call = script::retire::call(&queue.keys, args);
//! call.row(script::retire::Task { id: task.id.as_str(), envelope });
//! call.send(self.link()).await?;
//! ```
//!
//! In Lua, each key and argument is a local variable of its name. `ROWS` is the place of the first row. Each field has its
//! place in a row under its name in capitals, and `TASK_ROW` is the length of a row `Task`:
//!
//! ```text
//! for at = ROWS, #ARGV, TASK_ROW do local id, envelope = ARGV[at + ID], ARGV[at + ENVELOPE] end
//! ```
//!
//! The table `keys` has the keys that shared functions take, as their entry lists them.
//!
//! `keys of QueueKeys` takes fields of a struct in [`keys`](crate::keys). `keys:` alone makes a struct `Keys` of strings, for
//! keys that the script has names of its own for. `.. others` behind the keys stands for any number of keys more, of which
//! the first has the place `OTHERS` in `KEYS`.
//!
//! Tests compare the names that each script uses with its entry. They need no Redis: `cargo test -p asynqueue-redis --lib`.

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

    /// Leases the tasks that are next.
    lease {
        shared: clock lane whole index;
        keys of QueueKeys: tasks pending urgent active since gone lanes meta stats idle leases workers;
        args: not_after lane number token limit millis tag worker bytes step instance;
    }

    /// Leases anew what was leased by a call whose answer was lost.
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

    /// Makes the tasks pending that are due.
    forward {
        shared: clock waking pending first_due;
        keys of QueueKeys: priorities since pending urgent scheduled retry meta events idle;
        args: not_after publish limit;
    }

    /// Finds the leases that have ended.
    expired {
        shared: clock read;
        keys of QueueKeys: active tasks stats;
        args: not_after limit by bytes;
    }

    /// Deletes finished tasks and counts of hours that are kept no longer.
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

    /// Looks tasks up.
    look {
        shared: read index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active aggregating results progress meta
            leases workers;
        args: bytes;
        row Task: id;
    }

    /// Changes single tasks on demand, each only while it has the version that was seen.
    edit {
        shared: clock lane waking pending first_due waiting members groups index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active pending meta events locks results
            priorities since gone cancels waiters done aggregating grouped groups lock_ends idle owner lanes leases;
        args: not_after publish lane number;
        row Task: edit id version new priority lock ends ttl;
    }

    /// The groups that are due.
    due_groups {
        shared: clock members groups;
        keys of QueueKeys: aggregating grouped groups tasks;
        args: not_after limit bytes;
        row Event: event;
    }

    /// The groups that wait.
    look_groups {
        shared: members;
        keys of QueueKeys: grouped groups;
        args: limit;
    }

    /// Puts one task in place of members of a group.
    aggregate {
        shared: clock lane waking pending first_due waiting members groups;
        keys of QueueKeys: aggregating grouped groups pending urgent scheduled retry meta events tasks locks
            priorities lanes waiters done lock_ends idle owner;
        args: not_after lane number publish group id envelope how time priority lock ttl window;
        row Member: member held;
    }

    /// Makes members of a group one of their own.
    set_apart {
        shared: clock lane members groups;
        keys of QueueKeys: aggregating grouped groups tasks lanes;
        args: not_after lane number from spec offset;
        row Member: id seen new;
    }

    /// Lets a group be due later.
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

    /// About how many bytes keys take.
    memory {
        keys: .. all;
    }

    /// A queue's figures.
    stats {
        shared: clock gone;
        keys of QueueKeys: pending urgent gone tasks archived completed scheduled retry active since meta stats
            aggregating;
        args: not_after;
    }

    /// The tasks of a list that is kept by time.
    list {
        keys: list;
        args: direction limit;
        row Place: time member;
    }

    /// The tasks that wait in groups.
    list_grouped {
        keys of QueueKeys: grouped;
        args: limit after;
    }

    /// The tasks that are pending, in their order.
    list_pending {
        shared: clock gone;
        keys of QueueKeys: pending urgent gone tasks archived completed scheduled retry;
        args: place limit;
    }

    /// Notes that someone waits for a task to end.
    wait {
        shared: clock;
        keys of QueueKeys: tasks completed archived results waiters;
        args: not_after id millis;
    }

    /// Keeps the progress of tasks.
    report {
        shared: clock;
        keys of QueueKeys: active progress;
        args: not_after;
        row Report: lease value;
    }

    /// Stops or resumes leasing.
    pause {
        shared: clock lane waking;
        keys of QueueKeys: meta pending urgent events idle lanes;
        args: not_after lane number publish stop;
    }

    /// Wakes others for what is pending.
    wake {
        shared: clock waking;
        keys of QueueKeys: pending urgent meta events idle;
        args: not_after publish leaving;
    }

    /// Changes documents in sets, each set if all of its documents are as expected.
    swap_documents {
        shared: clock lane;
        keys: lanes .. spaces;
        args: not_after lane number counted;
        row Change: set space name expect put due_at;
    }

    /// The documents of a space that are due.
    due_documents {
        shared: clock;
        keys of SpaceKeys: documents due;
        args: not_after passed limit;
    }

    /// Counts tasks and the entries that say where they are.
    check {
        keys of QueueKeys: tasks pending meta gone stats locks lock_ends waiters lanes fired workers aggregating
            grouped groups leases urgent active scheduled retry archived completed;
    }

    /// Takes entries of tasks that are not there out of a sorted set.
    missing {
        keys: tasks list stats;
        args: begins;
        row Entry: entry;
    }

    /// Marks entries of the list of pending tasks whose tasks are not there.
    missing_pending {
        keys of QueueKeys: tasks pending gone meta stats;
        row Task: id;
    }

    /// Takes tasks out of their groups that are not there.
    missing_grouped {
        shared: clock members groups;
        keys of QueueKeys: aggregating grouped groups tasks stats;
        row Task: id;
    }

    /// Archives tasks that are in no state.
    orphans {
        shared: clock index places;
        keys of QueueKeys: tasks urgent scheduled retry archived completed active aggregating pending gone stats
            leases meta;
        args: not_after;
        row Task: id seen new;
    }

    /// Removes locks whose time is over.
    ended_locks {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after limit;
    }

    /// Notes the ends of locks.
    note_locks {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after;
        row Lock: lock;
    }

    /// Forgets the ends of locks that are not there.
    forget_ends {
        shared: clock;
        keys of QueueKeys: locks lock_ends;
        args: not_after;
        row Lock: lock;
    }

    /// Removes locks of tasks that are not there.
    lost_locks {
        shared: clock;
        keys of QueueKeys: locks lock_ends tasks stats;
        args: not_after;
        row Lock: lock seen;
    }

    /// Removes what is kept of tasks that are not there.
    without_task {
        shared: clock;
        keys: tasks kept;
        args: not_after;
        row Task: id;
    }

    /// Removes fields that are as they were seen.
    forget {
        keys: hash;
        row Field: field seen;
    }

    /// Takes or keeps the care of a queue.
    keep {
        shared: clock first_due;
        keys of QueueKeys: owner active tasks scheduled retry;
        args: not_after instance millis dead;
    }

    /// Gives up the care of a queue.
    release {
        shared: clock;
        keys of QueueKeys: owner events;
        args: not_after instance publish;
    }

    /// Says that an instance is alive, and asks whether others are.
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

    /// Some fields of a hash without their values.
    fields {
        keys: hash;
        args: cursor count;
    }

    /// Forgets workers of earlier builds that lease nothing.
    older_workers {
        keys of QueueKeys: active meta;
    }
}
