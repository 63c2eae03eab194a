//! Finds names in scripts that their entry in the [table](super::table) does not declare, and declared names that are
//! not used.

use std::collections::HashSet;

use super::source::Source;

/// Names of Lua and Redis that scripts use.
const BUILT_IN: &[&str] = &[
    "KEYS", "ARGV", "redis", "cmsgpack", "math", "string", "table", "error", "ipairs", "next",
    "pairs", "pcall", "tonumber", "type", "unpack",
];

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// The problems with the names in a script.
fn problems(source: &Source) -> Vec<String> {
    let mut known: HashSet<&str> = BUILT_IN.iter().copied().collect();
    let mut problems = Vec::new();
    let mut used: HashSet<&str> = HashSet::new();
    for shared in source.shared {
        let reading = Reading::of(shared.code, &known, &[], shared.keys);
        problems.extend(reading.problems);
        known.extend(functions(shared.code));
        used.extend(reading.used.iter().chain(shared.keys));
    }
    for key in source.shared_keys() {
        if !source.keys.contains(&key) {
            problems.push(format!(
                "a shared function uses the key `{key}`, which is not declared"
            ));
        }
    }
    let names = source.names();
    let header = Reading::of(&names, &known, &[], &[]);
    problems.extend(header.problems);
    let declared: Vec<&str> = header.declared.into_iter().collect();
    problems.extend(
        (declared.iter().filter(|name| known.contains(*name)))
            .map(|name| format!("`{name}` hides a function of that name")),
    );
    known.extend(&declared);
    let body = Reading::of(source.body, &known, &declared, &source.shared_keys());
    problems.extend(body.problems);
    used.extend(body.used);
    for shared in source.shared {
        if !functions(shared.code).any(|function| used.contains(function)) {
            let first = functions(shared.code).next().unwrap_or_default();
            problems.push(format!("the file of `{first}` is included but not used"));
        }
    }
    let rows = source.rows.iter().flat_map(|row| row.fields);
    // A row of one field is read by position.
    let rows: Vec<_> = match source.rows {
        [row] if row.fields.len() == 1 => Vec::new(),
        _ => rows.map(|field| field.to_uppercase()).collect(),
    };
    let rest = source.rest.map(str::to_uppercase);
    let rows = rows.iter().chain(&rest).map(String::as_str);
    let names = source.keys.iter().chain(source.args).copied().chain(rows);
    problems.extend(
        names
            .filter(|name| !used.contains(name))
            .map(|name| format!("`{name}` is declared but not used")),
    );
    problems
}

/// The functions at the top level of some Lua.
fn functions(code: &str) -> impl Iterator<Item = &str> {
    let declared = code
        .lines()
        .filter_map(|line| line.strip_prefix("local function "));
    declared.filter_map(|function| function.split('(').next())
}

/// A field of two rows is one local variable, so it needs the same position in both.
fn fields_at_two_places(source: &Source) -> Vec<String> {
    let fields = || {
        source
            .rows
            .iter()
            .flat_map(|row| row.fields.iter().enumerate())
    };
    let mut problems = Vec::new();
    for (place, field) in fields() {
        if fields().any(|(other, name)| name == field && other != place) {
            problems.push(format!("the field `{field}` has several positions"));
        }
    }
    problems
}

/// The names that some Lua declares and uses.
#[derive(Default)]
struct Reading<'a> {
    problems: Vec<String>,
    used: HashSet<&'a str>,
    declared: HashSet<&'a str>,
}

impl<'a> Reading<'a> {
    /// Reads code that knows these names, may not hide any of `reserved`, and may use these keys of the table `keys`.
    fn of(code: &'a str, known: &HashSet<&str>, reserved: &[&str], keys: &[&str]) -> Self {
        let tokens = tokens(code);
        let mut reading = Self::default();
        let mut brackets = Vec::new();
        let at = |place: usize| tokens.get(place).copied().unwrap_or("");
        let mut place = 0;
        while place < tokens.len() {
            let (before, token, after) = (at(place.wrapping_sub(1)), at(place), at(place + 1));
            match token {
                "(" | "{" | "[" => brackets.push(token),
                ")" | "}" | "]" => drop(brackets.pop()),
                "local" if after == "function" => {
                    reading.declare(at(place + 2), reserved);
                }
                "local" | "for" => place = reading.declare_list(&tokens, place + 1, reserved),
                "function" => {
                    let open = (place..).find(|place| at(*place) == "(").unwrap_or(place);
                    place = reading.declare_list(&tokens, open + 1, reserved);
                }
                "." if before == "keys" => {
                    if !keys.contains(&after) {
                        reading
                            .problems
                            .push(format!("`keys.{after}` is not declared"));
                    }
                    place += 1;
                }
                // A field or a method.
                "." | ":" => place += 1,
                _ if is_name(token) && !KEYWORDS.contains(&token) => {
                    let is_field = brackets.last() == Some(&"{")
                        && after == "="
                        && matches!(before, "{" | ",");
                    if !is_field {
                        reading.look_at(token, at(place + 2), after, known);
                    }
                }
                _ => {}
            }
            place += 1;
        }
        reading
    }

    /// Declares comma-separated names from an index on. Returns the index of the last one.
    fn declare_list(&mut self, tokens: &[&'a str], mut place: usize, reserved: &[&str]) -> usize {
        while let Some(name) = tokens.get(place).filter(|token| is_name(token)) {
            self.declare(name, reserved);
            if tokens.get(place + 1) != Some(&",") {
                return place;
            }
            place += 2;
        }
        place - 1
    }

    fn declare(&mut self, name: &'a str, reserved: &[&str]) {
        if reserved.contains(&name) {
            self.problems.push(format!(
                "`{name}` is declared again, and hides a key or an argument"
            ));
        }
        self.declared.insert(name);
    }

    fn look_at(&mut self, name: &'a str, index: &str, after: &str, known: &HashSet<&str>) {
        let is_place = index.starts_with(|first: char| first.is_ascii_digit());
        if matches!(name, "KEYS" | "ARGV") && after == "[" && is_place {
            self.problems.push(format!(
                "`{name}[{index}]` is accessed by index instead of by name"
            ));
        }
        if !known.contains(name) && !self.declared.contains(name) && !matches!(name, "keys") {
            self.problems.push(format!("`{name}` is not declared"));
        }
        self.used.insert(name);
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// The tokens of some Lua, without comments and the contents of strings.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("--") {
            rest = rest
                .split_once('\n')
                .map_or("", |(_, rest)| rest)
                .trim_start();
            continue;
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if first == '\'' {
            let mut escaped = true;
            let is_end = |c: char| {
                let ends = c == '\'' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            };
            rest.find(is_end).map_or(rest.len(), |end| end + 1)
        } else {
            let long = ["...", "..", "==", "~=", "<=", ">="];
            let operator = long.into_iter().find(|operator| rest.starts_with(operator));
            operator.map_or(first.len_utf8(), str::len)
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

mod tests {
    use super::*;
    use crate::script::{
        source::{Row, Shared},
        table::ALL,
    };

    #[test]
    fn every_script_uses_the_names_of_its_entry_and_no_others() {
        let mut all = Vec::new();
        for source in ALL {
            let found = problems(source)
                .into_iter()
                .chain(fields_at_two_places(source));
            all.extend(found.map(|problem| format!("{}.lua: {problem}", source.name)));
        }
        assert!(all.is_empty(), "{}", all.join("\n"));
    }

    #[test]
    fn a_script_that_reads_the_clock_declares_its_deadline() {
        for source in ALL {
            let declares = source.args.first() == Some(&"not_after");
            let looks = source.body.contains("clock(not_after)");
            assert_eq!(declares, looks, "{}.lua", source.name);
        }
    }

    fn found(body: &'static str) -> Vec<String> {
        static SHARED: Shared = Shared {
            keys: &["active"],
            code: "local function take(keys, id) redis.call('ZREM', keys.active, id) end\n",
        };
        static SHARED_BY_IT: &[&Shared] = &[&SHARED];
        let source = Source {
            name: "example",
            shared: SHARED_BY_IT,
            keys: &["tasks", "active"],
            rest: None,
            args: &["limit"],
            rows: &[Row {
                name: "Task",
                fields: &["id", "lock"],
            }],
            body,
        };
        problems(&source)
    }

    const GOOD: &str = "local ids = {tasks = tasks, ['limit'] = limit}\n\
        for at = ROWS, #ARGV, TASK_ROW do ids[#ids + 1] = ARGV[at + ID] .. ARGV[at + LOCK] end\n\
        take(keys, 'it\\'s') -- nothing, whatever it is\n";

    #[test]
    fn an_invalid_name_is_found() {
        assert_eq!(found(GOOD), Vec::<String>::new());
        for (wrong, problem) in [
            ("return pending", "`pending` is not declared"),
            ("return keys.tasks", "`keys.tasks` is not declared"),
            (
                "return KEYS[1]",
                "`KEYS[1]` is accessed by index instead of by name",
            ),
            (
                "return ARGV[2]",
                "`ARGV[2]` is accessed by index instead of by name",
            ),
            (
                "local tasks = {}",
                "`tasks` is declared again, and hides a key or an argument",
            ),
            (
                "local function f(limit) end",
                "`limit` is declared again, and hides a key or an argument",
            ),
            (
                "for _, tasks in ipairs(ARGV) do end",
                "`tasks` is declared again, and hides a key or an argument",
            ),
            ("return ARGV[1 + TTL]", "`TTL` is not declared"),
        ] {
            let body = format!("{GOOD}{wrong}").leak();
            assert!(
                found(body).contains(&problem.to_owned()),
                "{wrong}: {:?}",
                found(body)
            );
        }
        let unused = found("take(keys, limit, ARGV[ROWS + ID])");
        assert_eq!(
            unused,
            [
                "`tasks` is declared but not used",
                "`LOCK` is declared but not used"
            ]
        );
    }
}
