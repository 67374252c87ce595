-- A Prosody that serves one domain and its chat rooms, for tests/interop/xmpp_server.rs. What stands between @s is filled in there.
run_as_root = true
daemonize = false
pidfile = "@folder@/server.pid"
data_path = "@folder@/data"
certificates = "@folder@"
ssl = { certificate = "@chain@", key = "@key@", cafile = "@trust@" }
storage = "internal"
authentication = "internal_plain"
interfaces = { "@address@" }
use_ipv6 = false
c2s_ports = { 5222 }
s2s_ports = { 5269 }
c2s_direct_tls_ports = {}
s2s_direct_tls_ports = { @direct@ }
http_ports = {}
https_ports = {}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
s2s_require_encryption = true
s2s_secure_auth = @insists@
modules_enabled = { "roster", "saslauth", "tls", "dialback", "disco", "ping", "vcard", "smacks" }
-- The resolver is libunbound, inside its process: it asks nobody else, and believes what it is told.
unbound = { resolvconf = false, hoststxt = false, forward = "@resolver@@5353", options = {
    ["do-not-query-localhost:"] = "no",
    ["module-config:"] = "iterator",
} }
log = { { levels = { min = "debug" }, to = "file", filename = "@folder@/server.log" } }
VirtualHost "@domain@"
Component "conference.@domain@" "muc"
    muc_room_locking = false
