-- Tasks that wait for their group: `aggregating` keeps of each its limits and member, `grouped` the members in the order of
-- group and time, `groups` when each group is due. A group is its event and name, a member its group, time and id.

-- The members of a group, as a range of `grouped`.
local function members_of(group) return '[' .. group .. '\n', '(' .. group .. '\11' end

local function member_id(group, member) return member:sub(#group + 19) end
