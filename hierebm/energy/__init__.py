"""hierebm.energy"""
