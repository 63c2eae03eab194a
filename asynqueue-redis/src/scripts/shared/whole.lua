-- Makes a change all or nothing. Redis keeps what a script has done before an error, for example if a key has another
-- type or a command is denied. Then `undo` reverts what would leave a task in no state or in two, and the caller
-- receives the error.
local function whole(change, undo)
  local ok, answer = pcall(change)
  if ok then return answer end
  pcall(undo)
  error(answer, 0)
end
