"""Traffic shaping: how much mail a destination gets at a time, and how we learn it.

`rules` says what holds for whom (`providers.toml`, read by `reading`), `site` names what shares a
limit, `shaper` counts and decides. All of it is pure but `store`, which keeps what must survive a
restart, and `files`, which reads the rules from disk.
"""
