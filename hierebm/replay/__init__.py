"""hierebm.replay"""
