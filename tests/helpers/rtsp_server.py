"""Play a video (.mp4 or .ts) over RTSP on loopback, to each client from the start, in real time.

Run it with a Python that has GStreamer's bindings: `python3 rtsp_server.py VIDEO PORT [USER PASSWORD]`. Port
0 picks a free one. The server prints its address when it is ready.
"""

# ruff: noqa: E402
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
video, port, *login = sys.argv[1:]

server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)

factory = GstRtspServer.RTSPMediaFactory()
demuxer = "tsdemux" if video.endswith(".ts") else "qtdemux"
factory.set_launch(
    f'filesrc location="{video}" ! {demuxer} ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1'
)
if login:
    user, password = login
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string("viewer, media.factory.access=true, media.factory.construct=true")
    )
server.get_mount_points().add_factory("/live", factory)

if not server.attach(None):
    sys.exit(f"port {port} is taken")
print(f"rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)
GLib.MainLoop().run()
