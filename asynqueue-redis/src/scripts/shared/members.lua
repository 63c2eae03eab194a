-- Tasks that wait in a group: `aggregating` has the limits and member of each, `grouped` the members in the order of
-- group and time, `groups` when each group is due. A group is its event and name; a member is its group, time and id.

-- Returns the members of a group, as a range of `grouped`.
local function members_of(group) return '[' .. group .. '\n', '(' .. group .. '\11' end

local function member_id(group, member) return member:sub(#group + 19) end
