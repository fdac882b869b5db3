int fr_wire_placeholder(void);int fr_wire_placeholder(void){return 0;}
