"""Speed: the pace of polling in simulation, and the whole pack beside ComfyUI's own Kontext node."""
