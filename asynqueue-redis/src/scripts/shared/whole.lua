-- Makes a change as a whole: Redis keeps what a script has done before an error, as when a key is of another type or a command is
-- denied. Then `undo` takes back what would leave a task in no state or in two, and the caller sees the error.
local function whole(change, undo)
  local ok, answer = pcall(change)
  if ok then return answer end
  pcall(undo)
  error(answer, 0)
end
