use asynqueue_macros::Task;

#[derive(Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
union Welcome {
    user_id: u64,
}

fn main() {}
