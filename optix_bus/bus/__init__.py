"""The transport: one hub that orders, a journal, links that lose nothing, and blobs.

It knows nothing of learning. The rules and the bytes are in ``optix_bus/PROTOCOL.md``. Importing this package
loads nothing; take
`optix_bus.bus.link.Link`, `optix_bus.bus.hub.serve`, `optix_bus.bus.codec.Codec`,
`optix_bus.bus.journal_reader.JournalCursor`, `optix_bus.bus.blobs.FileBlobStore` from their modules.
"""
