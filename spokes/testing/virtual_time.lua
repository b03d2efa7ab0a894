-- Loaded in front of scripts that read the server's time: TIME returns the time of the test's clock instead.

local redis = setmetatable({}, {__index = redis})

function redis.call(command, ...)
  local server = getmetatable(redis).__index
  if command ~= 'TIME' then
    return server.call(command, ...)
  end
  local real = server.call('TIME')
  local now_us = real[1] * 1000000 + real[2] + tonumber(server.call('GET', 'spokes:testing:ahead-us') or 0)
  return {math.floor(now_us / 1000000), now_us % 1000000}
end

