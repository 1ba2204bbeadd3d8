-- SESSION NAME FORMAT: gives a session a track with the plugin, a bus for each of its outputs, and a track without it.
--
-- The plugin has all its 16 output pins, as after "Manual Config" in Ardour's "Pin Connections"; so has the track.
-- Nothing is wired here: a thread of Ardour's connects new routes to the master bus some time later.

local path, name, format = arg[1], arg[2], arg[3]
local stemline = {VST3 = "ABCDEF019182FAEB53746D6C53746D31", LV2 = "https://stemline.org/plugins/stemline"}
local stems = {"Main", "Drums", "Bass", "Guitar", "Piano", "Vocals", "Other", "Residual"}

local session = assert (load_session (path, name), "the session does not open")
local last = ARDOUR.PresentationInfo.max_order

-- A panner changes levels even at its centre.
local function without_panner (route)
	if not route:panner_shell ():isnil () then
		route:panner_shell ():set_bypassed (true)
	end
end

local function add_track (title)
	local track = session:new_audio_track (2, 2, nil, 1, title, last, ARDOUR.TrackMode.Normal, true):front ()
	without_panner (track)
	return track
end

local song = add_track ("Song")
local plugin = ARDOUR.LuaAPI.new_plugin (session, stemline[format], ARDOUR.PluginType[format], "")
assert (not plugin:isnil (), "Ardour does not know the plugin")
assert (song:add_processor_by_index (plugin, 0, nil, true) == 0)
local audio = ARDOUR.DataType ("audio")
assert (song:customize_plugin_insert (plugin, 1, ARDOUR.ChanCount (audio, 16), ARDOUR.ChanCount (audio, 2)))
without_panner (song)

for _, title in ipairs (stems) do
	without_panner (session:new_audio_route (2, 2, nil, 1, title, ARDOUR.PresentationInfo.Flag.AudioBus, last):front ())
end
add_track ("Dry")
without_panner (session:master_out ())

session:save_state ("")
close_session ()
