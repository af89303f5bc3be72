"""What a user can measure of a profile: speed, detection, masks, restoration, enlargement.

Nothing here prints, reads settings or loads a profile: networks are handed in, reports come back.
"""
