-- In front of the scripts that read or add dedupe marks: which of an hour's sets holds a mark.

local MARKS_PER_SET = 200 -- on average; the fullest sets have little more than twice that

-- The largest power of two that is at most `number`.
local function power_within(number)
  local power = 1
  while power * 2 <= number do
    power = power * 2
  end
  return power
end

